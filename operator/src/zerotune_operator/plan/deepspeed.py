"""`deepspeed.json`: what the plan stands for, with the user's own settings merged last and every "auto" filled."""

from __future__ import annotations

import copy
from typing import Any

from zerotune_operator.plan.batch import Batch
from zerotune_operator.plan.overrides import lookup
from zerotune_trainer.config.base import JsonObject
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.config.training import Training
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.memory import ZeroCandidate
from zerotune_trainer.sizing.workload import default_settings

DEEPSPEED_ADAMS = ("adam", "adamw")
"""DeepSpeed's optimizers, in lower case, that get the options of an Adam which `training` has."""


def deepspeed_settings(
    user: JsonObject, training: Training, batch: Batch, candidate: ZeroCandidate, shape: ModelShape, *, on_cpu: bool
) -> JsonObject:
    """The content of `deepspeed.json`.

    A schedule is left to transformers, which the plan has seen to be the same one.

    Args:
        user: The user's own settings, which win. They were checked against the spec.
        training: Hyperparameters, with the precision settled.
        batch: The batch.
        candidate: What is partitioned and offloaded.
        shape: The model, which buckets are sized by.
        on_cpu: Whether the ranks compute on CPU.

    Raises:
        ConfigurationError: a value is "auto" that zerotune knows nothing for.
    """
    known = _known(training, batch, candidate, shape, on_cpu=on_cpu)
    settings = merge(_generated(known, candidate), {key: value for key, value in user.items() if key != "scheduler"})
    if "optimizer" in settings:
        settings["optimizer"] = _optimizer(settings["optimizer"], known)
    filled = _fill(settings, known, "")
    assert isinstance(filled, dict)
    return filled


def merge(base: JsonObject, over: JsonObject) -> JsonObject:
    """`over` laid over `base`, object by object; neither is changed."""
    merged = copy.deepcopy(base)
    for key, value in over.items():
        both_objects = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both_objects else copy.deepcopy(value)
    return merged


def _known(
    training: Training, batch: Batch, candidate: ZeroCandidate, shape: ModelShape, *, on_cpu: bool
) -> JsonObject:
    """Every setting that the plan has a value for, whether this candidate needs it or not."""
    return {
        "train_batch_size": batch.global_size,
        "train_micro_batch_size_per_gpu": batch.micro,
        "gradient_accumulation_steps": batch.accumulation,
        "gradient_clipping": training.max_grad_norm,
        "bf16": {"enabled": training.precision == "bf16"},
        "fp16": _fp16(training),
        # The optimizer is transformers' AdamW, which DeepSpeed has not tested; it needs no compiler, CPUAdam does.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "wall_clock_breakdown": False,
        "zero_optimization": _zero(candidate, shape, on_cpu=on_cpu),
        "optimizer": {
            "params": {
                "lr": training.learning_rate,
                "betas": [training.adam_beta1, training.adam_beta2],
                "eps": training.adam_epsilon,
                "weight_decay": training.weight_decay,
                "torch_adam": True,
            }
        },
    }


def _fp16(training: Training) -> JsonObject:
    if training.precision != "fp16":
        return {"enabled": False}
    return {
        "enabled": True,
        "loss_scale": 0,
        "initial_scale_power": 16,
        "loss_scale_window": 1000,
        "hysteresis": 2,
        "min_loss_scale": 1,
    }


def _zero(candidate: ZeroCandidate, shape: ModelShape, *, on_cpu: bool) -> JsonObject:
    defaults = default_settings(shape, on_cpu=on_cpu)
    return {
        "stage": candidate.stage,
        "contiguous_gradients": True,
        "overlap_comm": defaults.overlap_comm,
        "reduce_scatter": True,
        "reduce_bucket_size": defaults.reduce_bucket_size,
        "allgather_partitions": True,
        "allgather_bucket_size": defaults.reduce_bucket_size,
        "sub_group_size": defaults.sub_group_size,
        "stage3_prefetch_bucket_size": defaults.prefetch_bucket_size,
        "stage3_param_persistence_threshold": 10 * shape.hidden_size,
        "stage3_max_live_parameters": defaults.max_live_parameters,
        "stage3_max_reuse_distance": defaults.max_live_parameters,
        "stage3_gather_16bit_weights_on_model_save": True,
        "offload_optimizer": {"device": candidate.offload_optimizer, "pin_memory": not on_cpu},
        "offload_param": {"device": candidate.offload_param, "pin_memory": not on_cpu},
    }


_OF_STAGE_3 = ("sub_group_size",)
_BELOW_STAGE_3 = ("allgather_partitions", "allgather_bucket_size")


def _generated(known: JsonObject, candidate: ZeroCandidate) -> JsonObject:
    settings = {key: value for key, value in known.items() if key != "optimizer"}
    settings["zero_optimization"] = {
        key: value for key, value in known["zero_optimization"].items() if _applies(key, candidate)
    }
    return settings


def _applies(key: str, candidate: ZeroCandidate) -> bool:
    if key == "stage":
        return True
    if key.startswith("offload_"):
        return bool(getattr(candidate, key) == "cpu")
    if key.startswith("stage3_") or key in _OF_STAGE_3:
        return candidate.stage == 3
    if key in _BELOW_STAGE_3:
        return candidate.stage in (1, 2)
    return candidate.stage > 0


def _optimizer(section: JsonObject, known: JsonObject) -> JsonObject:
    """The user's optimizer, with the spec's hyperparameters where it leaves them out: DeepSpeed has other defaults."""
    params = known["optimizer"]["params"]
    if section["type"].lower() not in DEEPSPEED_ADAMS:
        params = {name: params[name] for name in ("lr", "weight_decay")}
    return merge({"params": params}, section)


def _fill(value: Any, known: JsonObject, path: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, known, f"{path}.{key}" if path else key) for key, item in value.items()}
    if value != "auto":
        return value
    found = lookup(known, path)
    if found is None:
        raise ConfigurationError(
            f'deepspeed.{path} is "auto", and zerotune knows no value for it',
            "write a value, or leave it out for DeepSpeed's default",
        )
    return found
