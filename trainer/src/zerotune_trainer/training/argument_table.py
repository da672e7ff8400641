"""The fields of transformers' TrainingArguments as data, for the operator, which has no torch.

python -m zerotune_trainer.training.argument_table > trainer/src/zerotune_trainer/config/training_arguments.json
"""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
import types
import typing
from importlib.metadata import version
from typing import Any

from transformers.training_args import OptimizerNames, TrainingArguments

_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", list: "array"}


def json_types(hint: Any) -> set[str]:
    """JSON types of a field's annotation, those of an object without that of a text; `any` where JSON has no word."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        found = set().union(*(json_types(part) for part in typing.get_args(hint)))
        # A text there is the object as JSON, for a command line.
        return found - {"string"} if "object" in found else found
    if hint is type(None):
        return set()
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"integer" if issubclass(hint, int) else "string"}
    return {_NAMES.get(typing.get_origin(hint) or hint, "any")}


def _choices(field: dataclasses.Field[Any], hint: Any) -> list[str] | None:
    enums = [part for part in (*typing.get_args(hint), hint) if isinstance(part, type) and issubclass(part, enum.Enum)]
    if field.name == "optim":
        enums = [OptimizerNames]
    if enums:
        return [str(member.value) for member in enums[0]] if json_types(hint) == {"string"} else None
    choices = field.metadata.get("choices")
    return None if choices is None else [str(choice) for choice in choices]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default.value if isinstance(field.default, enum.Enum) else field.default


def table() -> dict[str, Any]:
    """Each field's name with its JSON types, default and choices, and the version of transformers they are of."""
    hints = typing.get_type_hints(TrainingArguments)
    fields = {
        field.name: {
            "types": sorted(json_types(hints[field.name])),
            "default": _default(field),
            "choices": _choices(field, hints[field.name]),
        }
        for field in dataclasses.fields(TrainingArguments)
    }
    return {"transformers": version("transformers"), "fields": fields}


if __name__ == "__main__":
    json.dump(table(), sys.stdout, indent=1)
    sys.stdout.write("\n")
