"""What to do about a value that the schema rejects: the remedy at the end of a message."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from zerotune_trainer.config.base import BUCKET

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION_PART = r"(\d{1,9})\s*([smhdw])(?:ec|in|our|ay|eek)?(?:ond|ute)?s?\s*"
_SIZE = re.compile(r"^([0-9]+(?:\.[0-9]+)?)\s*([KMGTPE])i?B?$", re.IGNORECASE)
_PLAIN = re.compile(r"^([-+]?[0-9.]+([eE][-+]?[0-9]+)?|true|false)$", re.IGNORECASE)
_TRUTH = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_NAME_CHARACTERS = 52
_MAIN_FIELDS = ("uris", "uri", "secretName")
"""The field of a part that its short form is meant for."""
_ADAPTERS = ("lora", "qlora", "dora", "peft", "adapter")
_ONLINE = ("grpo", "ppo", "rloo", "online_dpo", "reinforce", "rlhf")
"""Trainers of TRL that generate completions during training."""
_HUB = re.compile(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)/?(?:tree/main/?)?$")
_SCHEMES = ("s3", "pvc", "file", "hf")
_USER = re.compile(r"://(?:[^/\s@:]*:\S*|[^/\s@]*)@")
"""A password may hold a slash; so may a path hold an `@`."""
_AWS_NAMES = frozenset({"experimentName", "trialName", "runName", "jobNamePrefix", "channelName"})
"""Fields whose values are names at AWS, not of objects of Kubernetes."""
_ARNS = {
    "roleArn": "arn:aws:iam::ACCOUNT:role/ROLE",
    "trainingPlanArn": "arn:aws:sagemaker:REGION:ACCOUNT:training-plan/PLAN",
}
_INSTANCE_TYPES = frozenset({"instanceType", "instanceTypes"})
_INSTANCE_TYPE = re.compile(r"^(?:ml\.)?([a-z0-9-]+\.[a-z0-9]+)$")
"""One of SageMaker, or the type of EC2 that it is named after."""
_REGION = r"[a-z]{2,}(-[a-z]+)+-[0-9]"
_ACCOUNT = re.compile(r"^[0-9]{12}$")
_REPOSITORY = re.compile(r"^[\w.-]+/[\w.-]+$")


def without_keys(text: str) -> str:
    """A text in which no URI has user, keys or password before the host: they are repeated nowhere."""
    return _USER.sub("://...@", text)


def remedy_for_type(kind: str, field: str, found: Any, fields: Collection[str]) -> str:
    """What to write in place of a value of another type; empty where there is nothing to say.

    Args:
        kind: What pydantic calls the error.
        field: Name of the field.
        found: The value.
        fields: The fields that the part has, where it is a part.
    """
    if found is None:
        return "give a value, or leave the field out"
    match kind:
        case "string_type":
            return _remedy_for_text(field, found)
        case "int_type" | "float_type" | "bool_type" | "int_from_float":
            return _remedy_for_number(kind, field, found)
        case "list_type" if isinstance(found, dict):
            return "write a list: each of its items begins with a dash"
        case "list_type":
            return f"write it as a list: [{found}]"
        case "dict_type" | "model_type" if fields:
            return _remedy_for_part(found, fields)
    return ""


def _remedy_for_text(field: str, found: Any) -> str:
    if isinstance(found, bool):
        return "write it in quotes (YAML reads yes, no, y, n, on and off as true and false)"
    if isinstance(found, int | float):
        if field == "priorityClass":
            return "write the name of a PriorityClass, which has the number (kubectl get priorityclasses)"
        if not math.isfinite(found):
            return "neither NaN nor infinity is a number here"
        return f"write it with its unit, as in {found}Gi" if field == "memory" else "write it in quotes"
    if isinstance(found, dict) and len(found) == 1 and isinstance(name := next(iter(found.values())), str):
        return f"write {name} alone"
    if isinstance(found, list) and len(found) == 1:
        return f"write {found[0]} alone"
    return ""


def _remedy_for_number(kind: str, field: str, found: Any) -> str:
    if isinstance(found, float) and math.isfinite(found):
        return f"write {math.floor(found)} or {math.ceil(found)}"
    if not isinstance(found, str):
        return ""
    if "Seconds" in field and re.fullmatch(f"({_DURATION_PART})+", found.lower()):
        parts = re.findall(_DURATION_PART, found.lower())
        return f"write it in seconds: {sum(int(count) * _UNIT_SECONDS[unit] for count, unit in parts)}"
    if kind == "bool_type" and found.lower() in _TRUTH:
        return f"write {_TRUTH[found.lower()]}"
    if _PLAIN.match(found):
        return "write it without quotes"
    return "" if kind == "bool_type" else "write it in digits"


def _remedy_for_part(found: Any, fields: Collection[str]) -> str:
    """The field for which a text, or a list of them, stands; else all that there are."""
    main = next((name for name in _MAIN_FIELDS if name in fields), None)
    items = found if isinstance(found, list) else [found]
    alone = [next(iter(item.values())) if isinstance(item, dict) and len(item) == 1 else item for item in items]
    texts = [item for item in alone if isinstance(item, str)]
    if main and len(texts) == len(items) and (main == "uris" or len(texts) == 1):
        value = f"[{', '.join(texts)}]" if main == "uris" else texts[0]
        return f"write {main}: {value} below it"
    return f"write its fields, which are {', '.join(fields)}"


def remedy_for_choice(found: Any, choices: list[str]) -> str:
    """Which of the choices is meant by a value that is none; empty where there is nothing to say."""
    if str(found) in choices:
        return f"write it {'without' if isinstance(found, str) else 'in'} quotes"
    if str(found).lower() in _ADAPTERS and "sft" in choices:
        return "set spec.adapter to train an adapter, by any of these methods"
    if str(found).lower() in _ONLINE and "dpo" in choices:
        return "methods that generate while they train are not supported: dpo, orpo and kto learn from given answers"
    close = get_close_matches(str(found).lower(), choices, n=1)
    return f"did you mean {close[0]}?" if close else ""


def remedy_for_pattern(field: str, found: str) -> str:
    """What to write in place of a text that a pattern does not match; empty where there is nothing to say."""
    if found != found.strip():
        return "leave out the space around it"
    if control := next((each for each in found if unicodedata.category(each) in ("Cc", "Cf")), None):
        return f"leave out the control character {control!a}"
    if size := _SIZE.match(found):
        unit = size[2].upper()
        return f"write {size[1]}{'k' if unit == 'K' else unit} (units of 1000) or {size[1]}{unit}i (units of 1024)"
    if field in ("uri", "uris", "file", "s3Uri"):
        return _remedy_for_uri(field, without_keys(found))
    if field in {"region", *_ARNS, *_AWS_NAMES, *_INSTANCE_TYPES}:
        return _remedy_for_value_of_aws(field, found)
    if field.lower().endswith("name") or field in ("fromFineTuneJob", "fromInferenceJob", "priorityClass", "queue"):
        return remedy_for_name(found)
    return ""


def _remedy_for_value_of_aws(field: str, found: str) -> str:
    if field == "region":
        return _remedy_for_region(found)
    if field in _INSTANCE_TYPES:
        return _remedy_for_instance_type(found)
    if field in _ARNS:
        return wrong_account("".join(found.split(":")[4:5])) or f"write {_ARNS[field]}"
    name = re.sub("[^a-zA-Z0-9]+", "-", found).strip("-")
    return f"write {name}: letters, digits and '-'" if name else ""


def _remedy_for_instance_type(found: str) -> str:
    known = _INSTANCE_TYPE.match(found.strip().lower())
    return f"write ml.{known[1]}" if known else "write a type of SageMaker, such as ml.g5.12xlarge"


def wrong_account(found: str) -> str:
    """What is wrong with the number of an AWS account; empty where nothing is, or where there is none."""
    return f"an AWS account number has 12 digits, and {found!r} is none" if found and not _ACCOUNT.match(found) else ""


def _remedy_for_region(found: str) -> str:
    code = re.sub(r"[^a-z0-9]+", "-", found.lower())
    if re.fullmatch(rf"{_REGION}[a-z]", code):
        return f"{code} is an availability zone: write {code[:-1]}, the region that it is in"
    return f"write {code}" if re.fullmatch(_REGION, code) else "write the code of a region, such as eu-west-1"


def _remedy_for_uri(field: str, found: str) -> str:
    if field == "uri" and (hub := _HUB.match(found)):
        return f"a model of the Hugging Face Hub is hf://{hub[1]}"
    if field == "uri" and _REPOSITORY.match(found):
        return f"a model of the Hugging Face Hub is hf://{found}, a folder of this machine file://{found}"
    scheme, separator, path = found.partition("://")
    if not found or (separator and not path):
        return "write what follows the scheme" if found else "write one, or leave the field out"
    if field == "uris" and scheme == "hf":
        name = path.removeprefix("datasets/").rstrip("@")
        meant = f"did you mean hf://datasets/{name}? " if _REPOSITORY.match(name.partition("@")[0]) else ""
        return (
            f"{meant}a data set of the Hugging Face Hub is hf://datasets/ORG/NAME, with @REVISION where it is not main"
        )
    if remedy := _remedy_for_bucket(scheme, path, field):
        return remedy
    if separator and scheme.lower() in _SCHEMES and scheme not in _SCHEMES:
        return f"did you mean {scheme.lower()}://{path}?"
    if separator and scheme not in _SCHEMES:
        return "copy it to where the job can read it, and name it as s3://, pvc:// or file://"
    path = re.sub("^file:/*", "/", found)
    return "" if separator else f"a path of this machine is file://{path}"


def _remedy_for_bucket(scheme: str, path: str, field: str) -> str:
    """What is wrong with what stands before the first slash; empty where nothing is."""
    if path.startswith("...@"):
        return "leave out the keys before the @: a URI is written into logs and requests"
    if scheme != "s3":
        return ""
    if not re.fullmatch(BUCKET, path.partition("/")[0]):
        return "the name of a bucket has lower-case letters, digits, '.' and '-' alone, 3 to 63 of them"
    return "leave out *, ?, [ and ]: a channel has all files of a folder" if field == "s3Uri" else ""


def remedy_for_name(found: str) -> str:
    """A name that Kubernetes takes. What stands before a slash is a namespace, and names are looked up in the job's."""
    name = re.sub(r"[^a-z0-9]+", "-", found.rpartition("/")[2].lower()).strip("-")[:_NAME_CHARACTERS].strip("-")
    return f"write {name}: lower-case letters, digits and '-', in the namespace of the job" if name else ""
