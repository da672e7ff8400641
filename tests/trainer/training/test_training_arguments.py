"""Every field of the spec, and any other of TrainingArguments, reaches the trainer (R17)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.arguments import known, settable
from zerotune_trainer.errors import ConfigurationError

SPEC = {
    "perDeviceTrainBatchSize": 3,
    "gradientAccumulationSteps": 5,
    "perDeviceEvalBatchSize": 7,
    "numTrainEpochs": 2.5,
    "maxSteps": 11,
    "learningRate": 3e-4,
    "lrSchedulerType": "cosine_with_min_lr",
    "lrSchedulerKwargs": {"min_lr_rate": 0.2},
    "warmupSteps": 0.1,
    "weightDecay": 0.03,
    "adamBeta1": 0.8,
    "adamBeta2": 0.95,
    "adamEpsilon": 1e-6,
    "maxGradNorm": 0.7,
    "precision": "bf16",
    "gradientCheckpointing": True,
    "seed": 5,
    "loggingSteps": 9,
}
ANY = {
    "neftune_noise_alpha": 5,
    "label_smoothing_factor": 0.1,
    "optim": "adamw_torch",
    "dataloader_num_workers": 2,
    "data_seed": 8,
    "train_sampling_strategy": "sequential",
    "report_to": "tensorboard",
}

ACCEPTED: dict[str, Any] = {
    "optim": "adamw_torch",
    "optim_args": "amsgrad=True",
    "optim_target_modules": ["q_proj"],
    "label_smoothing_factor": 0.1,
    "tf32": False,
    "activation_checkpointing_kwargs": {"use_reentrant": True},
    "gradient_checkpointing_kwargs": {"use_reentrant": True},
    "torch_compile": True,
    "torch_compile_backend": "eager",
    "torch_compile_mode": "reduce-overhead",
    "liger_kernel_config": {"rope": True},
    "use_cache": True,
    "neftune_noise_alpha": 5,
    "torch_empty_cache_steps": 3,
    "logging_strategy": "epoch",
    "logging_first_step": True,
    "log_on_each_node": False,
    "log_level": "error",
    "log_level_replica": "error",
    "disable_tqdm": False,
    "report_to": "tensorboard",
    "run_name": "first",
    "project": "mine",
    "trackio_space_id": "team/space",
    "trackio_bucket_id": "team/bucket",
    "trackio_static_space_id": "team/static",
    "eval_delay": 3,
    "full_determinism": True,
    "data_seed": 8,
    "dataloader_num_workers": 3,
    "dataloader_pin_memory": False,
    "dataloader_persistent_workers": True,
    "dataloader_prefetch_factor": 4,
    "dataloader_multiprocessing_context": "spawn",
    "dataloader_in_order": False,
    "train_sampling_strategy": "sequential",
    "ddp_broadcast_buffers": False,
    "debug": "underflow_overflow",
    "skip_memory_metrics": False,
}
"""A value of each argument that may be set, other than its default."""
MOVED = {"gradient_checkpointing_kwargs": "activation_checkpointing_kwargs"}
"""Where transformers has the value of an older name."""
CHANGED: dict[str, Any] = {
    "report_to": ["tensorboard"],
    "debug": ["underflow_overflow"],
    "liger_kernel_config": {"rope": True, "fused_linear_cross_entropy": False},
}
"""What becomes of values that do not stay as they are."""
REPLACED = {"evaluate", "evaluation_loop", "prediction_step", "predict", "save_model", "to_dict", "to_sanitized_dict"}
"""Methods of transformers' Trainer that are replaced whole, never called, or no use of a value."""


def config(training: dict[str, Any]) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "job": {"kind": "FineTuneJob", "name": "job", "uid": "1"},
            "launch": {"cacheDir": "/cache", "hangTimeoutSeconds": 77},
            "model": {"uri": "file:///model"},
            "output": {"uri": "file:///output"},
            "method": "sft",
            "data": {"train": {"uris": ["file:///data.jsonl"]}},
            "training": training,
            "checkpoint": {"saveStrategy": "epoch", "saveSteps": 13},
            "evaluation": {"evalStrategy": "steps", "evalSteps": 17},
        }
    )


def test_every_field_reaches_the_arguments(tmp_path: Path) -> None:
    from zerotune_trainer.training.arguments import training_arguments

    made = training_arguments(
        config({**SPEC, "arguments": ANY}), {"zero_optimization": {"stage": 1}}, tmp_path, evaluates=True
    )
    expected = {
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 5,
        "per_device_eval_batch_size": 7,
        "num_train_epochs": 2.5,
        "max_steps": 11,
        "learning_rate": 3e-4,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.2},
        "warmup_steps": 0.1,
        "weight_decay": 0.03,
        "adam_beta1": 0.8,
        "adam_beta2": 0.95,
        "adam_epsilon": 1e-6,
        "max_grad_norm": 0.7,
        "bf16": True,
        "fp16": False,
        "activation_checkpointing": True,
        "seed": 5,
        "logging_steps": 9,
        "save_strategy": "epoch",
        "save_steps": 13,
        "eval_strategy": "steps",
        "eval_steps": 17,
        "ddp_timeout": 77,
        "output_dir": str(tmp_path),
        "use_cpu": True,
        **ANY,
        "report_to": ["tensorboard"],
    }
    assert {name: getattr(made, name) for name in expected} == expected


@pytest.mark.parametrize("name", settable())
def test_every_argument_that_is_accepted_reaches_the_arguments(name: str, tmp_path: Path) -> None:
    """A field that a newer transformers adds has no value here, and needs a verdict: it is carried out, or rejected."""
    from zerotune_trainer.training.arguments import training_arguments

    value = ACCEPTED[name]
    assert value != known()[name].default
    arguments = {"report_to": "none", "dataloader_num_workers": 2, name: value}
    zero = {"zero_optimization": {"stage": 1}}
    made = training_arguments(config({"arguments": arguments}), zero, tmp_path, evaluates=False)
    assert getattr(made, MOVED.get(name, name)) == CHANGED.get(name, value)


def test_every_argument_that_is_accepted_is_read_in_training() -> None:
    """By transformers, outside of the methods that are replaced. What only those read is rejected."""
    read = set(read_by_transformers())
    assert [name for name in settable() if MOVED.get(name, name) not in read] == []
    assert not {"prediction_loss_only", "include_for_metrics", "eval_accumulation_steps"} & read


def read_by_transformers() -> Iterator[str]:
    root = Path(str(find_spec("transformers").submodule_search_locations[0]))  # type: ignore[union-attr,index]
    names = ["trainer.py", "trainer_callback.py", "trainer_optimizer.py", "trainer_utils.py", "training_args.py"]
    for path in [*(root / name for name in names), *(root / "integrations").glob("*.py")]:
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name not in REPLACED:
                reads = [node for node in ast.walk(function) if isinstance(node, ast.Attribute)]
                yield from (node.attr for node in reads if isinstance(node.ctx, ast.Load))


def test_what_deepspeed_json_leaves_open_follows_the_arguments(tmp_path: Path) -> None:
    """D6: the precision is known before DeepSpeed's "auto" values are filled in."""
    from zerotune_trainer.training.arguments import training_arguments

    made = training_arguments(config(SPEC), {"zero_optimization": {"stage": 3}}, tmp_path, evaluates=False)
    filled = made.hf_deepspeed_config.config
    assert {name: filled[name] for name in ("bf16", "fp16", "gradient_clipping", "gradient_accumulation_steps")} == {
        "bf16": {"enabled": True},
        "fp16": {"enabled": False},
        "gradient_clipping": 0.7,
        "gradient_accumulation_steps": 5,
    }
    assert "scheduler" not in filled
    assert "optimizer" not in filled
    assert str(made.eval_strategy) != "steps"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor can only be set"),
    ],
)
def test_arguments_that_transformers_rejects_are_configuration_errors(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    from zerotune_trainer.training.arguments import training_arguments

    with pytest.raises(ConfigurationError, match=message):
        training_arguments(config({"arguments": arguments}), {}, tmp_path, evaluates=False)


def test_a_schedule_of_deepspeeds_own_is_rejected(tmp_path: Path) -> None:
    """D7."""
    from zerotune_trainer.training.zero import read_deepspeed

    (tmp_path / "deepspeed.json").write_text('{"scheduler": {"type": "WarmupLR"}}')
    with pytest.raises(ConfigurationError, match=r"deepspeed.scheduler and training.lrSchedulerType both"):
        read_deepspeed(tmp_path)
