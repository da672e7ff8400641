"""The keys of DeepSpeed's configuration as a JSON Schema, for the operator, which has no torch.

DeepSpeed ignores a key at the top level that it does not know. It has no list of them, so the table is of the keys that
`DeepSpeedConfig` asks a configuration for, and of the fields of the models that it makes of some sections. Nor does it
check the values of most keys: their types are those of its defaults.

python -m zerotune_trainer.training.deepspeed_table trainer/src/zerotune_trainer/config/deepspeed_keys.json
"""

from __future__ import annotations

import enum
import json
import sys
import typing
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import annotated_types
import torch
from deepspeed.comm.config import CommsLoggerConfig
from deepspeed.compile.config import CompileConfig
from deepspeed.inference.config import WeightQuantConfig
from deepspeed.monitor.config import DeepSpeedMonitorConfig
from deepspeed.runtime.config import (
    _REMOVED_TOP_LEVEL_CONFIG_KEYS,
    DEEPSPEED_OPTIMIZERS,
    DeepSpeedConfig,
    DeepSpeedConfigError,
    DtypeEnum,
    HybridEngineConfig,
)
from deepspeed.runtime.constants import CHECKPOINT_TAG_VALIDATION_MODES, GRADIENT_ALLREDUCE_OP_SUPPORTED
from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from deepspeed.utils.logging import log_levels
from pydantic import BaseModel

from zerotune_trainer.training.argument_table import json_types

_MODELS: dict[str, type[BaseModel]] = {
    "bf16": DeepSpeedBF16Config,
    "bfloat16": DeepSpeedBF16Config,
    "comms_logger": CommsLoggerConfig,
    "compile": CompileConfig,
    "fp16": DeepSpeedFP16Config,
    "hybrid_engine": HybridEngineConfig,
    "weight_quantization": WeightQuantConfig,
    "zero_optimization": DeepSpeedZeroConfig,
}
"""Sections that DeepSpeed makes a model of."""

_TYPES = {
    "activation_checkpointing.number_checkpoints": ["integer"],
    "data_types.keep_in_fp32_modules": ["array"],
    "flops_profiler.output_file": ["string"],
    "gradient_accumulation_steps": ["integer"],
    "log_level": ["string"],
    "optimizer.params": ["object"],
    "optimizer.type": ["string"],
    "scheduler.params": ["object"],
    "scheduler.type": ["string"],
    "steps_per_print": ["integer"],
    "train_batch_size": ["integer"],
    "train_micro_batch_size_per_gpu": ["integer"],
    "vocabulary_size": ["integer"],
}
"""JSON types of values that have no default, and that DeepSpeed takes apart, or divides by, unchecked."""

_DTYPES = [name for each in DtypeEnum if each.value.is_floating_point for name in each._all_values[1:]]
"""DeepSpeed's names of data types that gradients may have."""

_LATE = ("data_types.buffer_dtype", "data_types.grad_accum_dtype", "data_types.param_dtype")
"""Keys with the name of a data type, which is looked up when the engine has been made."""

_CHOICES: dict[str, list[str]] = {
    "checkpoint.tag_validation": CHECKPOINT_TAG_VALIDATION_MODES,
    "communication_data_type": _DTYPES,
    "log_level": list(log_levels),
    "gradient_allreduce_op": list(GRADIENT_ALLREDUCE_OP_SUPPORTED),
    "seq_parallel_communication_data_type": _DTYPES,
}
"""What may be a value, by the key: DeepSpeed takes some of them, in some ways of writing them."""

Keys = dict[str, Any]
"""Keys of a section, each with its own keys; with the JSON types of its value; or with None where those are unknown."""

Schema = dict[str, Any]
"""A JSON Schema, or a part of one."""


class _Recorder(dict[str, Any]):
    """A configuration that records which keys it is asked for, those that it does not hold too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked: dict[str, Any] = {}
        """Keys, each with its default where DeepSpeed gave one."""

    def get(self, key: str, default: Any = None) -> Any:
        self.asked[key] = default
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.asked.setdefault(str(key))
        return super().__contains__(key)

    def keys(self) -> Any:
        return self

    def __copy__(self) -> _Recorder:
        return self


def _asked(**sections: Any) -> _Recorder:
    recorder = _Recorder(train_batch_size=1, **sections)
    DeepSpeedConfig(recorder)
    return recorder


def _of_model(model: type[BaseModel]) -> Keys:
    keys: Keys = {}
    for name, field in model.model_fields.items():
        nested, kinds = next(_models_in(field.annotation), None), json_types(field.annotation)
        # Of two names the documented one: DeepSpeed would take both, and one of them counts.
        keys[field.alias or name] = _of_model(nested) if nested else None if "any" in kinds else sorted(kinds)
    return keys


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    for part in (annotation, *typing.get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part


def _of_section(name: str) -> Keys | None:
    section = _Recorder(type="AdamW") if name in ("optimizer", "scheduler") else _Recorder()
    try:
        _asked(**{name: section})
    except (AttributeError, TypeError, ValueError):
        return None  # It holds a value.
    of_model = _of_model(_MODELS[name]) if name in _MODELS else {}
    return _of_defaults(section.asked, f"{name}.") | of_model or None


def _of_defaults(asked: dict[str, Any], path: str = "") -> Keys:
    """The keys of a section that no model describes, with the types of their defaults."""
    return {key: _TYPES.get(path + key) or _type_of(default) for key, default in asked.items()}


def _type_of(default: Any) -> list[str] | None:
    # A text may stand for another type, as "auto" does.
    types = {bool: "boolean", int: "integer", float: "number"}
    return [types[type(default)]] if type(default) in types else None


def _limits() -> Iterator[tuple[str, Schema]]:
    """The values that keys may have, by the keys' dotted paths."""
    for name, model in _MODELS.items():
        yield from _limits_of_model(model, name)
    for path in _LATE:
        yield path, {"enum": _DTYPES}
    for path, choices in _CHOICES.items():
        written = dict.fromkeys(way(name) for way in (str.lower, str.upper, str.capitalize) for name in choices)
        yield path, {"enum": [name for name in written if _is_accepted(path, name)]}
    yield "steps_per_print", {"exclusiveMinimum": 0}


def _limits_of_model(model: type[BaseModel], path: str) -> Iterator[tuple[str, Schema]]:
    for name, field in model.model_fields.items():
        place = f"{path}.{field.alias or name}"
        for nested in _models_in(field.annotation):
            yield from _limits_of_model(nested, place)
        limits: Schema = dict(_bounds(field.metadata))
        names: Any = field.annotation
        if isinstance(names, enum.EnumMeta) and json_types(names) == {"string"}:
            members: list[enum.Enum] = list(names)
            limits["enum"] = [member.value for member in members]
        if limits:
            yield place, limits


def _bounds(metadata: Iterable[Any]) -> Iterator[tuple[str, float]]:
    for each in metadata:
        if isinstance(each, annotated_types.Ge):
            yield "minimum", float(str(each.ge))
        elif isinstance(each, annotated_types.Gt):
            yield "exclusiveMinimum", float(str(each.gt))
        elif isinstance(each, annotated_types.Le):
            yield "maximum", float(str(each.le))


def _is_accepted(path: str, value: str) -> bool:
    section, _, key = path.rpartition(".")
    try:
        _asked(**({section: _Recorder({key: value})} if section else {key: value}))
    except (ValueError, DeepSpeedConfigError):
        return False
    return True


def table() -> dict[str, Any]:
    """A schema of the keys, the optimizers, and what DeepSpeed says of keys that it had once."""
    asked = {key: default for key, default in _asked().asked.items() if key not in _REMOVED_TOP_LEVEL_CONFIG_KEYS}
    monitors, values = _of_model(DeepSpeedMonitorConfig), _of_defaults(asked)
    keys = {name: monitors.get(name) or _of_section(name) or values[name] for name in asked}
    return {
        "deepspeed": version("deepspeed"),
        "optimizers": sorted({*DEEPSPEED_OPTIMIZERS, *_optimizers_of_torch()}),
        "removed": _REMOVED_TOP_LEVEL_CONFIG_KEYS,
        "schema": _schema(keys, dict(_limits())),
    }


def _schema(keys: Keys, limits: dict[str, Schema], path: str = "") -> Schema:
    """The schema of a section: of a value that no model describes and that has no default, it says nothing."""
    properties: Schema = {}
    for name, known in keys.items():
        if isinstance(known, dict):
            properties[name] = _schema(known, limits, f"{path}{name}.")
        else:
            properties[name] = ({"type": known} if known else {}) | limits.get(path + name, {})
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _optimizers_of_torch() -> Iterator[str]:
    """DeepSpeed takes PyTorch's by the names of their classes."""
    for name, kind in vars(torch.optim).items():
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer:
            yield name


if __name__ == "__main__":
    # A file, as DeepSpeed writes to standard output when it is imported.
    Path(sys.argv[1]).write_text(json.dumps(table(), indent=1, sort_keys=True) + "\n")
