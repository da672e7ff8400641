"""Which keys DeepSpeed's configuration has: it ignores one at the top level that it does not know, and ends at another.

They are data, `deepspeed_keys.json`, made by `zerotune_trainer.training.deepspeed_table` from the pinned DeepSpeed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from operator import ge, gt, le
from typing import Any

from zerotune_trainer.config.base import JsonObject
from zerotune_trainer.errors import ConfigurationError

_PYTHON: dict[str, type | tuple[type, ...]] = {
    # DeepSpeed takes 5e8 for a whole number.
    "integer": (int, float),
    "number": (int, float),
    "boolean": bool,
    "string": str,
    "array": list,
    "object": dict,
}
_EXAMPLES = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "array": "a list",
    "object": "a group of keys",
}

_LIMITS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "enum": (lambda value, names: value in names, "one of"),
    "minimum": (ge, "a number of at least"),
    "exclusiveMinimum": (gt, "a number above"),
    "maximum": (le, "a number of at most"),
}
"""Words of JSON Schema, each with how a value keeps to it."""


def check_deepspeed_keys(settings: JsonObject) -> None:
    """See that DeepSpeed reads every key of a configuration.

    Raises:
        ConfigurationError: it does not read one, its value is of another type or none that it may be, or the optimizer
            is none.
    """
    _check_removed(settings)
    _check_section(settings, _table()["keys"], ())
    _check_optimizer(settings)


@cache
def _table() -> dict[str, Any]:
    text = files("zerotune_trainer.config").joinpath("deepspeed_keys.json").read_text()
    table: dict[str, Any] = json.loads(text)
    return table


def _check_removed(settings: JsonObject) -> None:
    removed = _table()["removed"]
    for key in settings.keys() & removed.keys():
        raise ConfigurationError(f"deepspeed.{key} is not supported by DeepSpeed {_version()}", removed[key])


def _version() -> str:
    return str(_table()["deepspeed"])


def _check_section(settings: JsonObject, known: JsonObject, path: tuple[str, ...]) -> None:
    for key, value in settings.items():
        place = (*path, key)
        if key not in known:
            raise ConfigurationError(
                f"deepspeed.{'.'.join(place)} is no key of DeepSpeed {_version()}, which would ignore it or end at it",
                _suggestion(key, known),
            )
        if value not in (None, "auto"):
            _check_value(value, known[key], place)
            _check_limits(value, ".".join(place))


def _check_value(value: Any, known: JsonObject | list[str] | None, place: tuple[str, ...]) -> None:
    if known is None:
        return
    if isinstance(known, list):
        _check_type(value, known, ".".join(place))
    elif isinstance(value, dict):
        _check_section(value, known, place)
    else:
        name = ".".join(place)
        raise ConfigurationError(
            f"deepspeed.{name} is {value!r:.80}, which must be a group of keys", f"it has {', '.join(sorted(known))}"
        )


def _check_type(value: Any, kinds: list[str], name: str) -> None:
    if not any(_is_of(value, kind) for kind in kinds):
        raise ConfigurationError(
            f"deepspeed.{name} is {value!r:.80}, which must be of type {' or '.join(kinds)}",
            f"write {' or '.join(_EXAMPLES[kind] for kind in kinds)}",
        )


def _is_of(value: Any, kind: str) -> bool:
    if isinstance(value, bool) or kind == "boolean":
        return isinstance(value, bool) and kind == "boolean"
    is_fraction = isinstance(value, float) and not value.is_integer()
    return isinstance(value, _PYTHON[kind]) and not (kind == "integer" and is_fraction)


def _check_limits(value: Any, name: str) -> None:
    for word, limit in _table()["limits"].get(name, {}).items():
        keeps, text = _LIMITS[word]
        if not keeps(value, limit):
            raise ConfigurationError(
                f"deepspeed.{name} is {value!r:.80}, which DeepSpeed {_version()} does not take",
                f"write {text} {_words(limit)}",
            )


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
    elsewhere = list(_places(key, _table()["keys"], ()))
    if len(elsewhere) == 1:
        return f"did you mean deepspeed.{elsewhere[0]}?"
    close = get_close_matches(key, known, n=1)
    return f"did you mean {close[0]}?" if close else "leave it out"


def _places(key: str, known: JsonObject, path: tuple[str, ...]) -> Iterator[str]:
    """Where else a key is one, below `known`."""
    for name, below in known.items():
        if name == key:
            yield ".".join((*path, name))
        elif isinstance(below, dict):
            yield from _places(key, below, (*path, name))
