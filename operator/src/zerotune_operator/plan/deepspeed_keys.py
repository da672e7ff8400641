"""Which keys DeepSpeed's configuration has: it ignores one at the top level that it does not know, and ends at another.

They are data, `deepspeed_keys.json`, made by `zerotune_trainer.training.deepspeed_table` from the pinned DeepSpeed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from zerotune_trainer.config.base import JsonObject
from zerotune_trainer.errors import ConfigurationError


def check_deepspeed_keys(settings: JsonObject) -> None:
    """See that DeepSpeed reads every key of a configuration.

    Raises:
        ConfigurationError: it does not read one, or wants a group of keys where there is a value.
    """
    _check_removed(settings)
    _check_section(settings, _table()["keys"], ())


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
        if known[key] is not None and value not in (None, "auto"):
            _check_value(value, known[key], place)


def _check_value(value: Any, known: JsonObject, place: tuple[str, ...]) -> None:
    if isinstance(value, dict):
        _check_section(value, known, place)
    elif not isinstance(value, list):
        name = ".".join(place)
        raise ConfigurationError(
            f"deepspeed.{name} is {value!r}, which must be a group of keys", f"it has {', '.join(sorted(known))}"
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
        elif below is not None:
            yield from _places(key, below, (*path, name))
