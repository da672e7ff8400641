"""The API server's schema of a pod template, held here: what it would drop or reject is found before anything is made.

`pod_template.schema.json` is taken from the OpenAPI of Kubernetes 1.36 by `zerotune_devtools.pod_schema`; it takes no
unknown field.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerotune_operator.api import manifest_yaml, quantity
from zerotune_operator.api.manifest_yaml import Problem
from zerotune_operator.api.remedies import remedy_for_pattern
from zerotune_operator.api.topology import Topology
from zerotune_operator.backends.kubernetes.objects import Object

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

PLACE = ("spec", "backend", "kubernetes", "pod")
"""Where the overlay is in a job."""

PATH = Path(__file__).with_name("pod_template.schema.json")
_TYPE_NAMES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a group of fields",
}


def check_patch(patch: Object) -> Iterator[Problem]:
    """What is wrong with a job's overlay by itself: what merges it relies on the types of its fields.

    Args:
        patch: The overlay, a strategic merge patch. A null in it takes a field away.
    """
    yield from _in_overlay(_problems(_without_directives(patch), complete=False))


def check_merged(merged: Object, topology: Topology, container: str) -> Iterator[Problem]:
    """What is wrong with what a job's overlay gives.

    Args:
        merged: The template with the overlay merged in.
        topology: What the job's ranks are planned from.
        container: Name of the container that does the job's work.
    """
    found = list(_problems(merged, complete=True))
    yield from _in_overlay(found or [*_images(merged, container), *_gpus(merged, topology, container)])


def _in_overlay(problems: Iterable[Problem]) -> Iterator[Problem]:
    return (Problem((*PLACE, *problem.path), problem.message) for problem in problems)


def _images(merged: Object, container: str) -> Iterator[Problem]:
    for kind in ("containers", "initContainers"):
        for each in merged["spec"].get(kind, []):
            if "image" not in each:
                yield Problem(
                    ("spec", kind),
                    f"has the container {each['name']!r} without an image: give it one; the container that does the "
                    f"job's work is {container!r}",
                )


def _gpus(merged: Object, topology: Topology, container: str) -> Iterator[Problem]:
    """GPUs that the container gets and no rank is planned for."""
    (trainer,) = (each for each in merged["spec"]["containers"] if each["name"] == container)
    for section, amounts in trainer.get("resources", {}).items():
        for name, amount in amounts.items() if section in ("limits", "requests") else ():
            is_gpu = name == topology.accelerator.resource or name.endswith("/gpu") or "/mig-" in name
            if is_gpu and str(amount) != str(topology.gpus_per_node):
                yield Problem(
                    ("spec", "containers"),
                    f"gives {container!r} {amount} {name}, and topology.gpusPerNode is {topology.gpus_per_node}: ranks "
                    f"are planned from topology, set gpusPerNode there, and accelerator.resource: {name}",
                )
                return


def _problems(template: Object, *, complete: bool) -> Iterator[Problem]:
    for error in _validator(complete).iter_errors(template):
        yield from _problems_of(error)


@cache
def _validator(complete: bool) -> Draft202012Validator:
    from jsonschema import Draft202012Validator  # Only jobs with an overlay need it, and it takes 50 ms to import.

    schema = json.loads(PATH.read_text())
    if not complete:
        for definition in schema["$defs"].values():
            definition.pop("required", None)
    return Draft202012Validator(schema)


def _without_directives(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_directives(inner)
            for name, inner in value.items()
            if inner is not None and not name.startswith("$")
        }
    return [_without_directives(item) for item in value] if isinstance(value, list) else value


def _problems_of(error: ValidationError) -> Iterator[Problem]:
    place: manifest_yaml.Path = tuple(error.absolute_path)
    schema: Any = error.schema
    found: Any = error.instance
    if error.validator == "additionalProperties":
        known: dict[str, Any] = schema["properties"]
        for name in found:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                remedy = f"did you mean {close[0]}?" if close else "correct the name, or leave it out"
                yield Problem((*place, name), f"is no field of a Kubernetes pod: {remedy}")
    elif error.validator == "required":
        missing = next(name for name in schema["required"] if name not in found)
        yield Problem((*place, missing), "is missing, and the API server requires it: give it")
    elif schema.get("pattern") == quantity.PATTERN and error.validator != "type":
        yield Problem(place, f"is {found!r:.80}, {quantity.RULE}")
    elif error.validator in ("minimum", "maximum"):
        bounds = f"from {schema['minimum']} to {schema['maximum']}"
        yield Problem(place, f"is {found!r:.80}, must be a whole number {bounds}, as the API server takes no other")
    elif error.validator == "pattern":
        remedy = remedy_for_pattern("", found)
        yield Problem(place, f"is {found!r:.80}, must match {schema['pattern']}: {remedy or 'write it so'}")
    else:
        kinds: list[str] = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        types = " or ".join(_TYPE_NAMES[kind] for kind in kinds)
        yield Problem(place, f"is {json.dumps(found):.80}, must be {types}: {_remedy_for_type(kinds, found)}")


def _remedy_for_type(kinds: list[str], found: Any) -> str:
    if "array" in kinds:
        return "begin each entry with a dash"
    return "quote it" if "string" in kinds and isinstance(found, int | float) else "write it so"
