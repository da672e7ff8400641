"""Which keys DeepSpeed's configuration has: it ignores one at the top level that it does not know, and ends at another.

They are a JSON Schema, `deepspeed_keys.json`, made by `zerotune_trainer.training.deepspeed_table` from the pinned
DeepSpeed. What a validator finds is put into words here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from zerotune_trainer.config.base import JsonObject
from zerotune_trainer.errors import ConfigurationError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

_EXAMPLES = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "array": "a list",
    "object": "a group of keys",
}
_LIMITS = {
    "enum": "one of",
    "minimum": "a number of at least",
    "exclusiveMinimum": "a number above",
    "maximum": "a number of at most",
}
"""Words of JSON Schema, in plain ones."""


def check_deepspeed_keys(settings: JsonObject) -> None:
    """See that DeepSpeed reads every key of a configuration.

    Raises:
        ConfigurationError: it does not read one, its value is of another type or none that it may be, or the optimizer
            is none.
    """
    _check_removed(settings)
    for error in _validator().iter_errors(_given(settings)):
        raise _in_words(error)
    _check_optimizer(settings)


@cache
def _table() -> dict[str, Any]:
    text = files("zerotune_trainer.config").joinpath("deepspeed_keys.json").read_text()
    table: dict[str, Any] = json.loads(text)
    return table


@cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator  # Only jobs with such keys need it, and it takes 50 ms to import.

    return Draft202012Validator(_table()["schema"])


def _given(settings: JsonObject) -> JsonObject:
    """The settings without those that are left to a default: null, or the Trainer's `auto`."""
    named = {name: value for name, value in settings.items() if value not in (None, "auto")}
    return {name: _given(value) if isinstance(value, dict) else value for name, value in named.items()}


def _check_removed(settings: JsonObject) -> None:
    removed = _table()["removed"]
    for key in settings.keys() & removed.keys():
        raise ConfigurationError(f"deepspeed.{key} is not supported by DeepSpeed {_version()}", removed[key])


def _version() -> str:
    return str(_table()["deepspeed"])


def _in_words(error: ValidationError) -> ConfigurationError:
    name = ".".join(["deepspeed", *map(str, error.absolute_path)])
    schema: Any = error.schema
    known, rule = schema.get("properties", {}), schema.get(str(error.validator))
    instance: Any = error.instance
    if error.validator == "additionalProperties":
        key = next(key for key in instance if key not in known)
        return ConfigurationError(
            f"{name}.{key} is no key of DeepSpeed {_version()}, which would ignore it or end at it",
            _suggestion(key, known),
        )
    found = f"{name} is {instance!r:.80}, which"
    if error.validator == "type" and known:
        return ConfigurationError(f"{found} must be a group of keys", f"it has {', '.join(sorted(known))}")
    if error.validator == "type":
        examples = " or ".join(_EXAMPLES[kind] for kind in rule)
        return ConfigurationError(f"{found} must be of type {' or '.join(rule)}", f"write {examples}")
    limit = f"{_LIMITS[str(error.validator)]} {_words(rule)}"
    return ConfigurationError(f"{found} DeepSpeed {_version()} does not take", f"write {limit}")


def _words(limit: float | list[str]) -> str:
    # DeepSpeed takes some names in capitals too: one way of writing each is enough.
    return ", ".join(dict.fromkeys(map(str.lower, limit))) if isinstance(limit, list) else f"{limit:g}"


def _check_optimizer(settings: JsonObject) -> None:
    section = settings.get("optimizer")
    kind = section.get("type") if isinstance(section, dict) else None
    known: list[str] = _table()["optimizers"]
    if isinstance(kind, str) and kind not in known and kind.lower() not in known:
        close = get_close_matches(kind.lower(), {name.lower(): name for name in known}, n=1)
        raise ConfigurationError(
            f"deepspeed.optimizer.type is {kind!r:.80}, which neither DeepSpeed {_version()} nor PyTorch has",
            f"did you mean {close[0]}?" if close else f"use one of {', '.join(known)}",
        )


def _suggestion(key: str, known: JsonObject) -> str:
    elsewhere = list(_places(key, _table()["schema"]["properties"], ()))
    if len(elsewhere) == 1:
        return f"did you mean deepspeed.{elsewhere[0]}?"
    close = get_close_matches(key, known, n=1)
    return f"did you mean {close[0]}?" if close else "leave it out"


def _places(key: str, known: JsonObject, path: tuple[str, ...]) -> Iterator[str]:
    """Where else a key is one, below `known`."""
    for name, below in known.items():
        if name == key:
            yield ".".join((*path, name))
        yield from _places(key, below.get("properties", {}), (*path, name))
