"""The corpus leaves nothing out: every rule is broken by a case, every field is set and every kind of bound tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.api.admission_cases import read_cases
from zerotune_operator.api.crd import KINDS, Kind, resource_schema
from zerotune_operator.api.fields import all_fields, fields_of, part_of
from zerotune_operator.api.load import InvalidManifestError, parse_job
from zerotune_operator.api.manifest_yaml import Path, Problem
from zerotune_trainer.config.base import Rule, Settings

OF_THE_API_SERVER = {("metadata", "uid"), ("metadata", "creationTimestamp")}
# No job that sets these is accepted: they are not supported.
NOWHERE = {("spec", "topology", "minNodes"), ("spec", "backend", "sagemaker", "enableNetworkIsolation")}
NEVER_ACCEPTED = {
    "FineTuneJob": {
        ("spec", "preference", "syncReference"),
        *OF_THE_API_SERVER,
        *NOWHERE,
    },
    "InferenceJob": {
        *(("spec", "data", "columns", name) for name in ("chosen", "rejected", "label")),
        *OF_THE_API_SERVER,
        *NOWHERE,
    },
}
# Every other value of these is rejected, so there is no job whose value could change.
NEVER_CHANGED = {"FineTuneJob": {"parallelism"}, "InferenceJob": {"zero"}}
# Keywords of the schema, and what the message of a rejection has for each.
BOUNDS = {
    "type": "must be",
    "enum": "must be one of",
    "pattern": "must match",
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
    "minLength": "at least 1 character",
    "maxLength": "characters",
    "minItems": "at least 1 entry",
    "maxItems": "at most 5 entries",
    "maxProperties": "at most 40 entries",
    "required": "is missing",
}


@pytest.fixture(scope="module")
def problems() -> list[tuple[str, Problem]]:
    """Everything that is wrong with the cases that are rejected, each with the case's kind."""
    found = []
    for case in read_cases("invalid.yaml"):
        with pytest.raises(InvalidManifestError) as caught:
            parse_job(case.manifest)
        found += [(case.manifest["kind"], problem) for problem in caught.value.problems]
    return found


def _rules(model: type[Settings], path: Path = ()) -> Iterator[tuple[Path, Rule]]:
    yield from ((path, rule) for rule in model.rules)
    for name, info in fields_of(model).items():
        part = part_of(info)
        if part:
            yield from _rules(part, (*path, name))


def _set(value: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if inner is not None:
                yield (*path, name)
                yield from _set(inner, (*path, name))
    for item in value if isinstance(value, list) else ():
        yield from _set(item, path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_rule_is_broken_by_a_case(kind: Kind, problems: list[tuple[str, Problem]]) -> None:
    mine = [problem for name, problem in problems if name == kind.name]
    broken = {(_without_indices(problem.path), problem.message.partition(": ")[2]) for problem in mine}
    changes = [case for case in read_cases("changes.yaml") if case.manifest["kind"] == kind.name]
    changed = {place for case in changes for place, _ in case.complaints}
    for path, rule in _rules(kind.model):
        place = (*path, *(rule.field.split(".") if rule.field else ()))
        if "oldSelf" in rule.cel:
            assert rule.field in NEVER_CHANGED[kind.name] or ".".join(map(str, place)) in changed, rule
        else:
            assert (place, rule.message) in broken, rule


def _without_indices(path: Path) -> Path:
    """A rule of a list's entries is broken by any of them."""
    return tuple(part for part in path if isinstance(part, str))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_field_is_set_by_a_case_that_is_accepted(kind: Kind) -> None:
    cases = read_cases("valid.yaml")
    found = {path for case in cases if case.manifest["kind"] == kind.name for path in _set(case.manifest)}
    never = NEVER_ACCEPTED[kind.name]
    left_out = {path for path in all_fields(kind.model) if not any(path[: len(head)] == head for head in never)} - found
    assert sorted(".".join(map(str, path)) for path in left_out) == []
    assert not found & never


@pytest.mark.slow
def test_every_kind_of_bound_is_tried(problems: list[tuple[str, Problem]]) -> None:
    used = {
        keyword for kind in KINDS for node in _nodes(resource_schema(kind)["properties"]["spec"]) for keyword in node
    }
    messages = [problem.message for _, problem in problems]
    assert used >= BOUNDS.keys()
    assert {bound for bound, text in BOUNDS.items() if not any(text in message for message in messages)} == set()


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    yield schema
    for name, inner in schema.items():
        if name == "properties":
            for field in inner.values():
                yield from _nodes(field)
        elif name in ("items", "additionalProperties"):
            yield from _nodes(inner)
