"""TrainConfig as transformers' TrainingArguments: every field of the spec, and any other by its own name."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel
from transformers import TrainingArguments

from zerotune_trainer import model
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.training import Checkpoint, Evaluation, Training
from zerotune_trainer.errors import ConfigurationError

_NAMES = frozenset(field.name for field in dataclasses.fields(TrainingArguments))

_FIELDS_OF_THE_SPEC = (
    {name: f"training.{to_camel(name)}" for name in Training.model_fields}
    | {name: f"checkpoint.{to_camel(name)}" for name in Checkpoint.model_fields}
    | {name: f"evaluation.{to_camel(name)}" for name in Evaluation.model_fields}
    | dict.fromkeys(("bf16", "fp16", "bf16_full_eval", "fp16_full_eval"), "training.precision")
    | dict.fromkeys(
        ("activation_checkpointing", "gradient_checkpointing"),
        "training.gradientCheckpointing",
    )
    | {"deepspeed": "deepspeed", "output_dir": "output.uri", "resume_from_checkpoint": "checkpoint.resume"}
    | dict.fromkeys(("metric_for_best_model", "greater_is_better", "eval_on_start"), "evaluation")
    | dict.fromkeys(("use_cpu", "ddp_backend", "ddp_timeout", "local_rank"), "topology")
)

_OURS = {
    "auto_find_batch_size": "the plan fixes the batch",
    "average_tokens_across_devices": "every token of a step weighs the same on every rank",
    "enable_jit_checkpoint": "zerotune saves when it is stopped",
    "fsdp": "DeepSpeed partitions the model",
    "fsdp_config": "DeepSpeed partitions the model",
    "parallelism_config": "DeepSpeed partitions the model",
    "remove_unused_columns": "rows hold what the model takes",
    "save_on_each_node": "checkpoints go to one folder",
    "restore_callback_states_from_checkpoint": "zerotune restores what it needs",
    "save_only_model": "a checkpoint without optimizer state cannot be resumed",
}


def training_arguments(
    config: TrainConfig, deepspeed: dict[str, Any], output: Path, *, evaluates: bool
) -> TrainingArguments:
    """The arguments that `config` stands for.

    Call it before the model is loaded: under ZeRO-3 the arguments tell transformers to partition while it loads.

    Args:
        config: What to do.
        deepspeed: Content of `deepspeed.json`; its "auto" values are filled in from the arguments.
        output: Folder that receives checkpoints.
        evaluates: Whether there are validation rows.

    Raises:
        ConfigurationError: an argument that does not exist, has a field of its own, or is refused by transformers.
    """
    check_names(config.training.arguments)
    training, evaluation = config.training, config.evaluation
    precision = model.resolve_precision(training.precision, config.launch.accelerator)
    micro_batch = training.per_device_train_batch_size or 1
    strategy = evaluation.eval_strategy if evaluates else "no"
    settings: dict[str, Any] = {
        "report_to": "none",
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
        **training.arguments,
        "output_dir": str(output),
        "deepspeed": _with_auto(deepspeed),
        "use_cpu": config.launch.accelerator == "cpu",
        "ddp_timeout": config.launch.hang_timeout_seconds,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "activation_checkpointing": training.gradient_checkpointing,
        "use_liger_kernel": training.use_liger_kernel,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": training.gradient_accumulation_steps or 1,
        "per_device_eval_batch_size": training.per_device_eval_batch_size or micro_batch,
        "num_train_epochs": training.num_train_epochs,
        "max_steps": training.max_steps or -1,
        **{name: getattr(training, name) for name in _AS_THEY_ARE},
        "lr_scheduler_kwargs": dict(training.lr_scheduler_kwargs),
        "eval_strategy": strategy,
        "eval_steps": evaluation.eval_steps,
        "metric_for_best_model": "loss" if strategy != "no" else None,
        "greater_is_better": False if strategy != "no" else None,
        "save_strategy": config.checkpoint.save_strategy,
        "save_steps": config.checkpoint.save_steps,
        "remove_unused_columns": False,
    }
    try:
        return TrainingArguments(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"training: {error}", "see TrainingArguments in the documentation of transformers"
        ) from error


_AS_THEY_ARE = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "seed",
    "logging_steps",
)


def check_names(names: dict[str, Any]) -> None:
    """See that `training.arguments` names fields of TrainingArguments which are not set elsewhere.

    Raises:
        ConfigurationError: one does not exist, has a field of its own in the spec, or is zerotune's to set.
    """
    for name in names:
        if name in _OURS:
            raise ConfigurationError(f"training.arguments.{name} cannot be set: {_OURS[name]}", "leave it out")
        if name in _FIELDS_OF_THE_SPEC:
            field = _FIELDS_OF_THE_SPEC[name]
            raise ConfigurationError(
                f"training.arguments.{name} has a field of its own: {field}", f"set {field} instead"
            )
        if name not in _NAMES:
            close = difflib.get_close_matches(name, _NAMES, n=1)
            raise ConfigurationError(
                f"training.arguments.{name}: TrainingArguments has no such field",
                f"did you mean {close[0]}?" if close else "see TrainingArguments in the documentation of transformers",
            )


def _with_auto(deepspeed: dict[str, Any]) -> dict[str, Any]:
    """Let what `deepspeed` leaves open follow the arguments; DeepSpeed's own defaults would not (fp32, no clipping)."""
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        **deepspeed,
    }
