"""The keys of DeepSpeed's configuration as data, for the operator, which has no torch.

DeepSpeed ignores a key at the top level that it does not know. It has no list of them, so the table is of the keys that
`DeepSpeedConfig` asks a configuration for, and of the fields of the models that it makes of some sections.

python -m zerotune_trainer.training.deepspeed_table trainer/src/zerotune_trainer/config/deepspeed_keys.json
"""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from deepspeed.comm.config import CommsLoggerConfig
from deepspeed.compile.config import CompileConfig
from deepspeed.inference.config import WeightQuantConfig
from deepspeed.monitor.config import DeepSpeedMonitorConfig
from deepspeed.runtime.config import (
    _REMOVED_TOP_LEVEL_CONFIG_KEYS,
    DEEPSPEED_OPTIMIZERS,
    DeepSpeedConfig,
    HybridEngineConfig,
)
from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
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

Keys = dict[str, Any]
"""Keys of a section, each with its own keys; with the JSON types of its value; or with None where those are unknown."""


class _Recorder(dict[str, Any]):
    """A configuration that records which keys it is asked for, those that it does not hold too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
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
    return dict.fromkeys(section.asked) | of_model or None


def table() -> dict[str, Any]:
    """The keys and optimizers, what DeepSpeed says of keys that it had once, and the version of DeepSpeed these are."""
    names = _asked().asked - set(_REMOVED_TOP_LEVEL_CONFIG_KEYS)
    monitors = _of_model(DeepSpeedMonitorConfig)
    keys = {name: monitors.get(name) or _of_section(name) for name in names}
    return {
        "deepspeed": version("deepspeed"),
        "keys": keys,
        "optimizers": sorted({*DEEPSPEED_OPTIMIZERS, *_optimizers_of_torch()}),
        "removed": _REMOVED_TOP_LEVEL_CONFIG_KEYS,
    }


def _optimizers_of_torch() -> Iterator[str]:
    """DeepSpeed takes PyTorch's by the names of their classes."""
    for name, kind in vars(torch.optim).items():
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer:
            yield name


if __name__ == "__main__":
    # A file, as DeepSpeed writes to standard output when it is imported.
    Path(sys.argv[1]).write_text(json.dumps(table(), indent=1, sort_keys=True) + "\n")
