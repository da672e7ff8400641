"""TrainConfig as transformers' TrainingArguments: every field of the spec, and any other by its own name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from zerotune_trainer import model
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.input_errors import input_errors


def training_arguments(
    config: TrainConfig, deepspeed: dict[str, Any], output: Path, *, evaluates: bool
) -> TrainingArguments:
    """The arguments that `config` stands for.

    Call it before the model is loaded: under ZeRO-3 the arguments have transformers partition while it loads.

    Args:
        config: What to do.
        deepspeed: Content of `deepspeed.json`; its "auto" values are filled in from the arguments.
        output: Folder that receives checkpoints.
        evaluates: Whether there are validation rows.

    Raises:
        ConfigurationError: there will be no best state to load, or transformers rejects an argument or several
            together.
    """
    training, evaluation = config.training, config.evaluation
    precision = model.resolve_precision(training.precision, config.launch.accelerator)
    micro_batch = training.per_device_train_batch_size or 1
    strategy = evaluation.eval_strategy if evaluates else "no"
    if evaluation.load_best_model_at_end and "no" in (strategy, config.checkpoint.save_strategy):
        raise ConfigurationError(
            "evaluation.loadBestModelAtEnd needs evaluations and checkpoints to choose from",
            "give validation records, and set neither evaluation.evalStrategy nor checkpoint.saveStrategy to no",
        )
    settings: dict[str, Any] = {
        "report_to": "none",
        "run_name": config.job.name,
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
        # It would replace the forward pass of the model, which makes the loss in tiles already.
        "liger_kernel_config": {**(training.arguments.get("liger_kernel_config") or {}), **_NO_LOSS_OF_LIGER},
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": training.gradient_accumulation_steps or 1,
        "per_device_eval_batch_size": training.per_device_eval_batch_size or micro_batch,
        "num_train_epochs": training.num_train_epochs,
        "max_steps": training.max_steps or -1,
        **{name: getattr(training, name) for name in _AS_THEY_ARE},
        "lr_scheduler_kwargs": training.lr_scheduler_kwargs.model_dump(exclude_none=True),
        "eval_strategy": strategy,
        "eval_steps": evaluation.eval_steps,
        "metric_for_best_model": "loss" if strategy != "no" else None,
        "greater_is_better": False if strategy != "no" else None,
        "save_strategy": config.checkpoint.save_strategy,
        "save_steps": config.checkpoint.save_steps,
        "remove_unused_columns": False,
    }
    with input_errors(ConfigurationError, "training", "see TrainingArguments in the documentation of transformers"):
        return TrainingArguments(**settings)


_NO_LOSS_OF_LIGER = {"fused_linear_cross_entropy": False}

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
