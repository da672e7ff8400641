"""What a user's DeepSpeed configuration says twice: settings that the spec has a field of its own for.

DeepSpeed would follow its configuration and the trainer the spec, so each such setting fills the field where the spec
left it open, agrees with it, or is rejected. Nothing is silently one and not the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from zerotune_operator.api.jobs import FineTuneJobSpec
from zerotune_operator.plan.deepspeed_keys import check_deepspeed_keys
from zerotune_trainer.config.base import JsonObject, Settings
from zerotune_trainer.config.training import Training
from zerotune_trainer.errors import ConfigurationError


@dataclass(frozen=True)
class Alias:
    """A DeepSpeed setting and the field of the spec that means the same."""

    path: str
    """Keys of the DeepSpeed configuration, joined by dots."""
    part: str
    """Part of the spec: `training` or `zero`."""
    field: str


ALIASES = (
    Alias("train_batch_size", "training", "global_batch_size"),
    Alias("train_micro_batch_size_per_gpu", "training", "per_device_train_batch_size"),
    Alias("gradient_accumulation_steps", "training", "gradient_accumulation_steps"),
    Alias("gradient_clipping", "training", "max_grad_norm"),
    Alias("zero_optimization.stage", "zero", "stage"),
    Alias("zero_optimization.offload_optimizer.device", "zero", "offload_optimizer"),
    Alias("zero_optimization.offload_param.device", "zero", "offload_param"),
    Alias("optimizer.params.lr", "training", "learning_rate"),
    Alias("optimizer.params.eps", "training", "adam_epsilon"),
    Alias("optimizer.params.weight_decay", "training", "weight_decay"),
    Alias("scheduler.params.warmup_max_lr", "training", "learning_rate"),
    Alias("scheduler.params.warmup_num_steps", "training", "warmup_steps"),
    Alias("scheduler.params.total_num_steps", "training", "max_steps"),
)

_ELSEWHERE = {
    "amp": "set training.precision",
    "torch_autocast": "set training.precision",
    "autotuning": "leave it out: zerotune plans the batch and the ZeRO stage",
    "elasticity": "set topology.minNodes",
    "pipeline": "set parallelism.pipeline",
    "sequence_parallel_size": "set parallelism.sequence",
    "tensor_parallel": "set parallelism.tensor",
    "zero_optimization.cpu_offload": "write offload_optimizer: {device: cpu}",
    "zero_optimization.cpu_offload_params": "write offload_param: {device: cpu}",
    "zero_optimization.cpu_offload_param": "write offload_param: {device: cpu}",
    "zero_optimization.cpu_offload_use_pin_memory": "write pin_memory in offload_optimizer and offload_param",
}
"""Settings that change what the plan counts with, and where they belong."""

SCHEDULES = {"WarmupLR": "constant_with_warmup", "WarmupDecayLR": "linear", "WarmupCosineLR": "cosine"}
"""DeepSpeed's schedules that one of transformers equals."""

_SCHEDULE_SETTINGS = {"warmup_max_lr", "warmup_num_steps", "total_num_steps"}
_SCHEDULE_CONSTANTS = {"warmup_min_lr": 0, "warmup_type": "linear"}


def merge_deepspeed(spec: FineTuneJobSpec) -> FineTuneJobSpec:
    """The spec with the fields it left open taken from its DeepSpeed configuration.

    Raises:
        ConfigurationError: the two contradict each other, a setting belongs elsewhere in the spec, or DeepSpeed has no
            such setting.
    """
    for path, remedy in _ELSEWHERE.items():
        if lookup(spec.deepspeed, path) is not None:
            raise ConfigurationError(f"deepspeed.{path} cannot be set there", remedy)
    check_deepspeed_keys(spec.deepspeed)
    _check_schedule(spec.training, spec.deepspeed.get("scheduler"))
    _check_optimizer(spec.training, spec.deepspeed.get("optimizer"))
    for alias in ALIASES:
        spec = _merge_alias(spec, alias)
    return _merge_precision(spec)


def lookup(settings: Any, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    for key in path.split("."):
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _merge_alias(spec: FineTuneJobSpec, alias: Alias) -> FineTuneJobSpec:
    value = lookup(spec.deepspeed, alias.path)
    current = getattr(getattr(spec, alias.part), alias.field)
    if value is None or value == "auto" or value == current:
        return spec
    if current in (None, "auto") and "scheduler" not in alias.path:
        return _with(spec, alias.part, alias.field, value, alias.path)
    name = f"{alias.part}.{to_camel(alias.field)}"
    raise ConfigurationError(
        f"deepspeed.{alias.path} is {value!r}, but {name} is {current!r}",
        f'set {name}: {value}, or write "auto" in the DeepSpeed configuration',
    )


def _with(spec: FineTuneJobSpec, part: str, field: str, value: Any, path: str) -> FineTuneJobSpec:
    before: Settings = getattr(spec, part)
    try:
        after = type(before).model_validate({**before.model_dump(), field: value})
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ConfigurationError(f"deepspeed.{path} is {value!r}: {reason}", f"see {part}.{to_camel(field)}") from error
    return spec.model_copy(update={part: after})


def _merge_precision(spec: FineTuneJobSpec) -> FineTuneJobSpec:
    switches = {name: lookup(spec.deepspeed, f"{name}.enabled") for name in ("bf16", "fp16")}
    chosen = [name for name, switch in switches.items() if switch is True]
    if len(chosen) == 2:
        raise ConfigurationError("deepspeed enables both bf16 and fp16", 'enable one of them, or write "auto"')
    if not chosen and list(switches.values()) == [False, False]:
        chosen = ["fp32"]
    if chosen and spec.training.precision == "auto":
        return _with(spec, "training", "precision", chosen[0], f"{chosen[0]}.enabled")
    return spec


def check_precision(precision: str, settings: JsonObject) -> None:
    """See that the switches a user gave are those of the precision that was settled on.

    Raises:
        ConfigurationError: one is not.
    """
    for name in ("bf16", "fp16"):
        switch = lookup(settings, f"{name}.enabled")
        if switch in (True, False) and switch != (precision == name):
            raise ConfigurationError(
                f"deepspeed.{name}.enabled is {str(switch).lower()}, but the job trains in {precision}",
                f'set training.precision, and write "auto" for deepspeed.{name}.enabled',
            )


def _check_schedule(training: Training, scheduler: Any) -> None:
    """transformers runs the schedule, so it must be one that `training` describes."""
    if scheduler is None:
        return
    kind = scheduler.get("type") if isinstance(scheduler, dict) else scheduler
    if kind not in SCHEDULES:
        raise ConfigurationError(
            f"deepspeed.scheduler is {kind!r}, but training.lrSchedulerType is {training.lr_scheduler_type!r}",
            "leave deepspeed.scheduler out, and describe the schedule in training",
        )
    if SCHEDULES[kind] != training.lr_scheduler_type:
        raise ConfigurationError(
            f"deepspeed.scheduler is {kind}, but training.lrSchedulerType is {training.lr_scheduler_type!r}",
            f"set training.lrSchedulerType: {SCHEDULES[kind]}, or leave deepspeed.scheduler out",
        )
    for name, value in (scheduler.get("params") or {}).items():
        fixed = _SCHEDULE_CONSTANTS.get(name)
        if value != "auto" and name not in _SCHEDULE_SETTINGS and value != fixed:
            raise ConfigurationError(
                f"deepspeed.scheduler.params.{name} is {value!r}, which no schedule of training does",
                f"set it to {fixed!r}, or leave it out" if fixed is not None else "leave it out",
            )


def _check_optimizer(training: Training, optimizer: Any) -> None:
    if optimizer is None:
        return
    if "optim" in training.arguments:
        raise ConfigurationError(
            "deepspeed.optimizer and training.arguments.optim both choose an optimizer", "leave one of them out"
        )
    if not isinstance(optimizer, dict) or not isinstance(optimizer.get("type"), str):
        raise ConfigurationError(
            f"deepspeed.optimizer is {optimizer!r}", "write {type: AdamW, params: {...}}, or leave it out"
        )
    betas = lookup(optimizer, "params.betas")
    ours = [training.adam_beta1, training.adam_beta2]
    if betas not in (None, "auto", ours):
        raise ConfigurationError(
            f"deepspeed.optimizer.params.betas is {betas}, but training.adamBeta1 and adamBeta2 are {ours}",
            'set those two fields, or write "auto" in the DeepSpeed configuration',
        )
