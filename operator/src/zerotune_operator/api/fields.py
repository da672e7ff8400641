"""The fields of a part by the names they have in files, and the parts below it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo

from zerotune_operator.api.manifest_yaml import Path
from zerotune_trainer.config.base import Settings


def fields_of(model: type[Settings]) -> dict[str, FieldInfo]:
    """The fields of a part by the names they have in files."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def part_of(info: FieldInfo) -> type[Settings] | None:
    """The part that a field holds, `None` where it holds a value."""
    for candidate in (info.annotation, *get_args(info.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Settings):
            return candidate
    return None


def field_at(model: type[Settings], place: Path) -> FieldInfo | None:
    """The field at a place below `model`, `None` where there is none."""
    info: FieldInfo | None = None
    part: type[Settings] | None = model
    for name in place:
        if isinstance(name, int):
            continue
        info = fields_of(part).get(name) if part else None
        part = part_of(info) if info else None
    return info


def all_fields(model: type[Settings], path: Path = ()) -> Iterator[Path]:
    """Every field below `model`."""
    for name, info in fields_of(model).items():
        yield (*path, name)
        part = part_of(info)
        if part:
            yield from all_fields(part, (*path, name))


def without_empty(model: type[Settings], value: Any) -> Any:
    """`value` less the fields of `model` that are there without a value: so does the API server."""
    if isinstance(value, list):
        return [without_empty(model, item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = fields_of(model)
    kept = {}
    for name, found in value.items():
        info = fields.get(name)
        part = part_of(info) if info else None
        if found is not None or info is None:
            kept[name] = without_empty(part, found) if part else found
    return kept
