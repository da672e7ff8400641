"""What pydantic and the rules find wrong with a manifest, as messages: the value, the rule, the remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from zerotune_operator.api.cel import broken_rules
from zerotune_operator.api.fields import field_at, fields_of, part_of
from zerotune_operator.api.manifest_yaml import Path, Problem, path_text
from zerotune_operator.api.quantity import PATTERN as QUANTITY_PATTERN
from zerotune_operator.api.quantity import RULE as QUANTITY_RULE
from zerotune_operator.api.remedies import (
    remedy_for_choice,
    remedy_for_name,
    remedy_for_pattern,
    remedy_for_type,
    without_keys,
)
from zerotune_operator.api.suggestions import fields_at, suggest_field
from zerotune_operator.api.support import BackendName, unsupported
from zerotune_trainer.config.base import URI_FORMS, Rule, Settings
from zerotune_trainer.counting import counted

_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a group of fields",
    "model_type": "a group of fields",
}

_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
_SIZES = {
    "string_too_long": ("at most", "max_length", ("character",)),
    "string_too_short": ("at least", "min_length", ("character",)),
    "too_long": ("at most", "max_length", ("entry", "entries")),
    "too_short": ("at least", "min_length", ("entry", "entries")),
}


def validate(model: type[Settings], value: Any) -> Settings:
    """The part that `value` describes, types as strict as the API server's.

    Raises:
        ValidationError: it describes none.
    """
    return model.model_validate(value, strict=True, by_alias=True, by_name=False)


def find_problems(model: type[Settings], value: Any, path: Path = ()) -> list[Problem]:
    """Everything wrong with a part: types and names first, then the rules of every part that is otherwise right."""
    try:
        validate(model, value)
        found = []
    except ValidationError as error:
        found = _translate(model, value, path, error)
    return found + list(_broken_rules(model, value, path, [problem.path for problem in found]))


def find_changes(model: type[Settings], value: Settings, old: Settings, path: Path = ()) -> Iterator[Problem]:
    """The rules about change that going from `old` to `value` breaks."""
    yield from _evaluate(model, _plain(value), path, _plain(old))


def find_unsupported(kind: str, spec: Settings, backend: BackendName) -> Iterator[Problem]:
    """What a spec asks for that a backend does not support."""
    value = _plain(spec)
    return (_broken(line.rule, value, ("spec",)) for line in unsupported(kind, value, backend))


def _plain(part: Settings) -> dict[str, Any]:
    return part.model_dump(mode="json", by_alias=True, exclude_none=True)


def _broken_rules(model: type[Settings], value: Any, path: Path, bad: list[Path]) -> Iterator[Problem]:
    if isinstance(value, list) and path not in bad:
        for index, item in enumerate(value):
            yield from _broken_rules(model, item, (*path, index), bad)
    if not isinstance(value, dict):
        return
    for name, info in fields_of(model).items():
        part = part_of(info)
        if part and name in value:
            yield from _broken_rules(part, value[name], (*path, name), bad)
    if not any(place[: len(path)] == path for place in bad):
        yield from _evaluate(model, _plain(validate(model, value)), path)


def _evaluate(
    model: type[Settings], value: dict[str, Any], path: Path, old: dict[str, Any] | None = None
) -> Iterator[Problem]:
    for rule in broken_rules(model.rules, value, old):
        yield _broken(rule, value, path)


def _broken(rule: Rule, value: dict[str, Any], path: Path) -> Problem:
    found: Any = value
    for name in rule.field.split(".") if rule.field else ():
        found = found.get(name) if isinstance(found, Mapping) else None
    is_plain = not isinstance(found, list) or not any(isinstance(item, dict) for item in found)
    shown = isinstance(found, str | int | float | list) and not isinstance(found, bool) and is_plain
    place = (*path, *rule.field.split(".")) if rule.field else path
    return Problem(place, f"is {_cut(repr(found))}: {rule.message}" if shown else f"is rejected: {rule.message}")


def _translate(model: type[Settings], value: Any, path: Path, error: ValidationError) -> list[Problem]:
    found: dict[Path, str] = {}
    for details in error.errors(include_url=False):
        for place, message in _describe(model, value, details):
            known = found.get((*path, *place))
            # The alternatives of a union complain one by one about the same value.
            found[(*path, *place)] = f"{known}, or {message.partition('must be ')[2]}" if known else message
    return [Problem(place, message) for place, message in found.items()]


def _describe(model: type[Settings], value: Any, details: ErrorDetails) -> Iterator[tuple[Path, str]]:
    place = _place(value, details)
    context = details.get("ctx", {})
    if details["type"] == "training_arguments":
        for name, complaint in context["complaints"].items():
            yield (*place, name), complaint
        return
    yield place, _message(model, place, details, context)


def _place(value: Any, details: ErrorDetails) -> Path:
    """Where the error is in the document: pydantic also names the alternative of a union that it tried."""
    place: list[str | int] = []
    for part in details["loc"]:
        inside = isinstance(value, list) if isinstance(part, int) else isinstance(value, dict) and part in value
        if inside:
            value = value[part]
        elif details["type"] != "missing":
            continue
        place.append(part)
    return tuple(place)


def _message(model: type[Settings], place: Path, details: ErrorDetails, context: dict[str, Any]) -> str:
    kind, found = details["type"], details["input"]
    if kind == "extra_forbidden":
        return f"is not a field of {path_text(place[:-1]) or model.__name__}: {suggest_field(model, place)}"
    description = _description(model, place)
    if kind == "missing":
        generated = place == ("metadata", "name") and "generateName" in found
        instead = "generateName is for `kubectl create`, and a job is found and goes on by its name: give one. "
        return f"is missing: {instead if generated else ''}{description}"
    if kind == "literal_error":
        return _choice_message(found, context)
    if kind in _WANTED:
        remedy = remedy_for_type(kind, str(place[-1]), found, fields_at(model, place))
        return f"is {_shown(found)}, must be {_WANTED[kind]}{f': {remedy}' if remedy else ''}"
    if rule := _bound(kind, context):
        remedy = remedy_for_name(found) if kind == "string_too_long" and place[-1] == "name" else ""
        return f"is {_shown(found)}, must be {rule}: {f'{remedy}. ' if remedy else ''}{description}"
    if kind == "string_pattern_mismatch":
        names = [name for name in place if isinstance(name, str)]
        remedy = remedy_for_pattern(names[-1], found)
        return f"is {_shown(found)}, {_rule_of(context['pattern'])}: {f'{remedy}. ' if remedy else ''}{description}"
    if kind == "too_large":
        return details["msg"]
    return f"is {_shown(found)}: {details['msg']}"


def _bound(kind: str, context: dict[str, Any]) -> str:
    """The bound that a value is beyond: `at least 1 entry`; empty where it is beyond none."""
    if kind in _BOUNDS:
        words, limit = _BOUNDS[kind]
        return f"{words} {context[limit]}"
    if kind in _SIZES:
        words, limit, nouns = _SIZES[kind]
        return f"{words} {counted(context[limit], *nouns)}"
    return ""


def _rule_of(pattern: str) -> str:
    return QUANTITY_RULE if pattern == QUANTITY_PATTERN else f"must match {URI_FORMS.get(pattern, pattern)}"


def _choice_message(found: Any, context: dict[str, Any]) -> str:
    choices = [choice.strip("'") for choice in context["expected"].replace(" or ", ", ").split(", ")]
    rule = f"is {_shown(found)}, must be one of {', '.join(choices)}"
    remedy = remedy_for_choice(found, choices)
    return f"{rule}; {remedy}" if remedy else rule


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"{str(value).lower()} (true or false)"
    kind = next(name for types, name in _VALUES if isinstance(value, types))
    return f"{_cut(repr(value) if isinstance(value, str) else str(value))} ({kind})"


def _cut(text: str) -> str:
    text = without_keys(text)
    return text if len(text) <= 80 else f"{text[:77]}..."


_VALUES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (str, "text"),
    ((int, float), "a number"),
    (list, "a list"),
    (dict, "a group of fields"),
    (object, "something else"),
)


def _description(model: type[Settings], place: Path) -> str:
    info = field_at(model, place) or field_at(model, place[:-1])  # The entry of a map is described with the map.
    return " ".join((info.description if info and info.description else "see `zerotune explain`").split())
