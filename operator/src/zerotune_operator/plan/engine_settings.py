"""What memory depends on of a user's own DeepSpeed settings and arguments."""

from __future__ import annotations

from typing import Any

from zerotune_operator.api.jobs import FineTuneJobSpec
from zerotune_operator.plan.overrides import lookup
from zerotune_trainer.config.base import JsonObject
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.workload import EngineSettings, default_settings

_SIZES = {
    "reduce_bucket_size": "reduce_bucket_size",
    "stage3_prefetch_bucket_size": "prefetch_bucket_size",
    "stage3_max_live_parameters": "max_live_parameters",
    "sub_group_size": "sub_group_size",
}
_MOST_ELEMENTS = 10**15
"""More than any model has."""

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}

_OPTIMIZERS = {
    "adamw_torch_fused": (8, True),
    "adamw_apex_fused": (8, True),
    "adamw_torch": (8, False),
    "adamw_8bit": (2, True),
    "adamw_bnb_8bit": (2, True),
    "ademamix": (12, True),
    "ademamix_8bit": (3, True),
    "lion_32bit": (4, True),
    "lion_8bit": (1, True),
    "rmsprop_bnb_8bit": (1, True),
    "rmsprop_bnb_32bit": (4, True),
    "rmsprop": (4, False),
    "adagrad": (4, False),
    "sgd": (0, False),
    "adafactor": (1, False),
}
"""`optim` of TrainingArguments: bytes of state a parameter, and whether the update is in place. Any other is taken for
an AdamW that is not. Paged ones keep their state where it was, until the GPU is full."""

_DEEPSPEED_OPTIMIZERS = {"adam": 8, "adamw": 8, "lamb": 8, "lion": 4, "adagrad": 4, "muon": 8, "sgd": 4}
"""`type` of DeepSpeed's optimizer section."""


def engine_settings(spec: FineTuneJobSpec, shape: ModelShape, *, on_cpu: bool) -> EngineSettings:
    """The settings as `deepspeed.json` will have them, and the optimizer's.

    Raises:
        ConfigurationError: a size is no number.
    """
    zero = spec.deepspeed.get("zero_optimization") or {}
    sizes: JsonObject = {**given_sizes(spec.deepspeed)}
    if isinstance(zero.get("overlap_comm"), bool):
        sizes["overlap_comm"] = zero["overlap_comm"]
    state, in_place = _optimizer(spec)
    return default_settings(shape, on_cpu=on_cpu).model_copy(
        update={
            **{field: value for field, value in sizes.items() if value is not None},
            "gradient_bytes": _BYTES.get(str(lookup(spec.deepspeed, "data_types.grad_accum_dtype"))),
            "optimizer_bytes": state,
            "fused_optimizer": in_place,
        }
    )


def given_sizes(deepspeed: JsonObject) -> dict[str, int | None]:
    """The sizes of a user's DeepSpeed configuration, by our names for them; None where they are left to the plan.

    Raises:
        ConfigurationError: one is no number of elements.
    """
    zero = deepspeed.get("zero_optimization") or {}
    return {field: _size(zero[name], name) for name, field in _SIZES.items() if name in zero}


def _size(value: Any, name: str) -> int | None:
    """A number of elements, which DeepSpeed takes as 5e8 too; None where it is left to the plan."""
    if value == "auto":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_ELEMENTS:
        raise ConfigurationError(
            f"deepspeed.zero_optimization.{name} is {value!r}, which is no number of elements",
            "write one, as 500000000, or leave it out",
        )
    return int(value)


def _optimizer(spec: FineTuneJobSpec) -> tuple[int, bool]:
    kind = lookup(spec.deepspeed, "optimizer.type")
    if kind is None:
        name = str(spec.training.arguments.get("optim", "adamw_torch_fused"))
        return _OPTIMIZERS.get(name.removeprefix("paged_"), (8, False))
    # The plan asks for PyTorch's AdamW; DeepSpeed's own updates in place.
    in_place = lookup(spec.deepspeed, "optimizer.params.torch_adam") is False
    return _DEEPSPEED_OPTIMIZERS.get(str(kind).lower(), 8), in_place
