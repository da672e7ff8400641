"""Which field is meant by a name that is none."""

from __future__ import annotations

import re
from difflib import get_close_matches

from zerotune_operator.api.fields import all_fields, field_at, fields_of, part_of
from zerotune_operator.api.manifest_yaml import Path, path_text
from zerotune_trainer.config.arguments import place_of
from zerotune_trainer.config.base import Settings

_ELSEWHERE = {
    "workers": "nodes",
    "instancecount": "nodes",
    "numworkers": "nodes",
    "parallelism": "nodes",
    "gpusperworker": "gpusPerNode",
    "gpuspernodes": "gpusPerNode",
    "nproc": "processesPerNode",
    "ranks": "processesPerNode",
    "lr": "learningRate",
    "bf16": "precision",
    "fp16": "precision",
    "rank": "r",
    "lora": "adapter",
    "peft": "adapter",
    "name": "uri",
    "path": "uri",
    "url": "uri",
    "dir": "uri",
    "secret": "secretName",
    "resources": "topology",
    "files": "uris",
    "paths": "uris",
    "urls": "uris",
}
"""What neighbouring projects call a field of ours."""
_OF_A_POD = frozenset(
    {"affinity", "containers", "initContainers", "nodeSelector", "nodeName", "schedulerName", "securityContext"}
    | {"tolerations", "topologySpreadConstraints", "volumes", "hostNetwork", "dnsPolicy", "runtimeClassName"}
)
_OF_A_CONTAINER = frozenset({"env", "envFrom", "volumeMounts", "ports", "command", "args", "imagePullPolicy"})
_POD = "spec.backend.kubernetes.pod.spec"


def suggest_field(model: type[Settings], place: Path) -> str:
    """What to write in place of an unknown field: the field that is meant, or those that there are.

    Args:
        model: What the manifest describes.
        place: Where the field is in it.
    """
    names, name = list(fields_at(model, place[:-1])), str(place[-1])
    found = _same(names, name) or _longer(names, name) or _called_elsewhere(names, name) or _of_a_pod(name)
    found = found or _in_another_part(model, name) or _argument(name) or _elsewhere(model, name)
    found = found or _close(names, name)
    return f"did you mean {found}?" if found else f"it has {', '.join(sorted(names))}"


def fields_at(model: type[Settings], place: Path) -> list[str]:
    """The fields of the part at a place below `model`; none where it is a value."""
    field = field_at(model, place)
    part = model if not place else part_of(field) if field else None
    return list(fields_of(part)) if part else []


def _same(names: list[str], name: str) -> str | None:
    return next((known for known in names if _bare(known) == _bare(name)), None)


def _longer(names: list[str], name: str) -> str | None:
    return next((known for known in names if known.startswith(name) and len(name) > 2), None)


def _called_elsewhere(names: list[str], name: str) -> str | None:
    meant = _ELSEWHERE.get(_bare(name))
    return meant if meant in names else None


def _of_a_pod(name: str) -> str | None:
    if name in _OF_A_POD:
        return f"{_POD}.{name}"
    return f"{name} of the container `trainer` in {_POD}.containers" if name in _OF_A_CONTAINER else None


def _in_another_part(model: type[Settings], name: str) -> str | None:
    return next((path_text(path) for path in all_fields(model) if path[-1] == name), None)


def _elsewhere(model: type[Settings], name: str) -> str | None:
    """The one field of another part that neighbouring projects call so."""
    meant = _ELSEWHERE.get(_bare(name))
    paths = [path for path in all_fields(model) if path[-1] == meant]
    return path_text(paths[0]) if len(paths) == 1 else None


def _argument(name: str) -> str | None:
    """The place of a field of TrainingArguments, in either way of writing."""
    meant = place_of(re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name))
    return f"spec.{meant}" if meant else None


def _close(names: list[str], name: str) -> str | None:
    bare = {_bare(known): known for known in names}
    return next((bare[match] for match in get_close_matches(_bare(name), bare, n=1)), None)


def _bare(name: str) -> str:
    """A name without its way of writing: `learning_rate` is `learningRate`."""
    return name.replace("_", "").lower()
