"""What to do about a value that the schema rejects: the remedy at the end of a message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"^(\d{1,9})([smhd])$")
_SIZE = re.compile(r"^([0-9]+(?:\.[0-9]+)?)\s*([kKMGTPE])i?[bB]?$")
_PLAIN = re.compile(r"^([-+]?[0-9.]+([eE][-+]?[0-9]+)?|true|false)$", re.IGNORECASE)
_NAME_CHARACTERS = 52


def remedy_for_type(kind: str, field: str, found: Any, fields: Mapping[str, Any]) -> str:
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
            return _remedy_for_text(found)
        case "int_type" | "float_type" | "bool_type" if isinstance(found, str):
            return _remedy_for_number(field, found)
        case "list_type" if not isinstance(found, dict):
            return f"write it as a list: [{found}]"
        case "dict_type" | "model_type" if fields:
            return f"write its fields, which are {', '.join(fields)}"
    return ""


def _remedy_for_text(found: Any) -> str:
    if isinstance(found, bool):
        return "write it in quotes (YAML reads yes, no, on and off as true and false)"
    if isinstance(found, int | float):
        return "write it in quotes"
    if isinstance(found, dict) and len(found) == 1 and isinstance(name := next(iter(found.values())), str):
        return f"write {name} alone"
    if isinstance(found, list) and len(found) == 1:
        return f"write {found[0]} alone"
    return ""


def _remedy_for_number(field: str, found: str) -> str:
    duration = _DURATION.match(found)
    if duration and field.endswith("Seconds"):
        return f"write it in seconds: {int(duration[1]) * _UNIT_SECONDS[duration[2]]}"
    return "write it without quotes" if _PLAIN.match(found) else ""


def remedy_for_pattern(field: str, found: str) -> str:
    """What to write in place of a text that a pattern does not match; empty where there is nothing to say."""
    if found.startswith(("http://", "https://")):
        return "download the file, and name it as s3://, pvc:// or file://"
    if field == "uri" and re.fullmatch(r"[\w.-]+/[\w.-]+", found):
        return f"a model of the Hugging Face Hub is hf://{found}"
    if size := _SIZE.match(found):
        unit = size[2].upper()
        return f"write {size[1]}{'k' if unit == 'K' else unit} (units of 1000) or {size[1]}{unit}i (units of 1024)"
    if field.lower().endswith("name") or field in ("fromFineTuneJob", "priorityClass", "queue"):
        return _remedy_for_name(found)
    return ""


def _remedy_for_name(found: str) -> str:
    """A name that Kubernetes takes. What stands before a slash is a namespace, and names are looked up in the job's."""
    name = re.sub(r"[^a-z0-9]+", "-", found.rpartition("/")[2].lower()).strip("-")[:_NAME_CHARACTERS].strip("-")
    return f"write {name}: lower-case letters, digits and '-', in the namespace of the job" if name else ""
