"""Every field of the spec, and any other of TrainingArguments, reaches the trainer (R17)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.config import TrainConfig
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
        ({"torch_empty_cache_steps": -1}, "must be an integer bigger than 0"),
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
