"""A user's DeepSpeed configuration: merged last, "auto" filled, never against the spec (R29, D6, D7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from hypothesis import given
from hypothesis import strategies as st

from zerotune_operator.plan import Plan
from zerotune_operator.plan.deepspeed import merge
from zerotune_operator.plan.overrides import lookup
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.errors import ConfigurationError

PlanOf = Callable[..., Plan]

GPUS = {"gpusPerNode": 2, "accelerator": {"product": "NVIDIA-H100-80GB-HBM3"}, "memory": "200Gi"}


def settings(plan: Plan) -> dict[str, Any]:
    assert plan.deepspeed is not None
    return plan.deepspeed


def config(plan: Plan) -> TrainConfig:
    assert isinstance(plan.config, TrainConfig)
    return plan.config


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp16", "fp32"])
def test_deepspeed_runs_the_precision_of_the_spec(plan_training: PlanOf, precision: str) -> None:
    """D6, R19."""
    plan = plan_training(training={"precision": precision}, topology=GPUS)
    resolved = "bf16" if precision == "auto" else precision
    switches = {name: settings(plan)[name]["enabled"] for name in ("bf16", "fp16")}
    assert switches == {"bf16": resolved == "bf16", "fp16": resolved == "fp16"}
    assert (plan.precision, config(plan).training.precision) == (resolved, resolved)


def test_auto_is_fp32_on_cpu_and_fp16_is_rejected_there(plan_training: PlanOf) -> None:
    assert plan_training().precision == "fp32"
    with pytest.raises(ConfigurationError) as caught:
        plan_training(deepspeed={"fp16": {"enabled": True}})
    assert caught.value.message == "precision is fp16, and the job runs on CPU"
    assert caught.value.hint == "use fp32 or bf16, or set gpusPerNode"


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("topology", [GPUS, {"processesPerNode": 2, "memory": "8Gi"}], ids=["gpu", "cpu"])
def test_deepspeed_knows_every_setting_we_write(plan_training: PlanOf, stage: int, topology: Any) -> None:
    written = settings(plan_training(zero={"stage": stage}, topology=topology))["zero_optimization"]
    read = DeepSpeedZeroConfig(**written).model_dump(by_alias=True)
    assert {name: read[name] for name in written} == written


ADOPTED = [
    ({"train_batch_size": 24}, lambda training: training.global_batch_size, 24),
    ({"train_micro_batch_size_per_gpu": 3}, lambda training: training.per_device_train_batch_size, 3),
    ({"gradient_accumulation_steps": 5}, lambda training: training.gradient_accumulation_steps, 5),
    ({"bf16": {"enabled": True}}, lambda training: training.precision, "bf16"),
    ({"fp16": {"enabled": True}, "bf16": {"enabled": False}}, lambda training: training.precision, "fp16"),
    ({"fp16": {"enabled": False}, "bf16": {"enabled": False}}, lambda training: training.precision, "fp32"),
]


@pytest.mark.parametrize(("own", "of", "expected"), ADOPTED)
def test_what_the_spec_leaves_open_is_taken_from_the_deepspeed_settings(
    plan_training: PlanOf, own: Any, of: Callable[[Any], Any], expected: Any
) -> None:
    plan = plan_training(deepspeed=own, topology=GPUS)
    assert of(config(plan).training) == expected
    assert {key: lookup(settings(plan), key) for key in own if key.startswith(("train", "grad"))} == {
        key: value for key, value in own.items() if key.startswith(("train", "grad"))
    }


@pytest.mark.parametrize(("stage", "device"), [(2, "cpu"), (3, "cpu"), (3, "none"), (1, "none")])
def test_stage_and_offload_are_taken_from_the_deepspeed_settings(
    plan_training: PlanOf, stage: int, device: str
) -> None:
    own = {"zero_optimization": {"stage": stage, "offload_optimizer": {"device": device}}}
    plan = plan_training(deepspeed=own, topology=GPUS)
    assert plan.candidate is not None
    assert (plan.candidate.stage, plan.candidate.offload_optimizer) == (stage, device)


CONTRADICTIONS = [
    (
        {"optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}},
        {"learningRate": 2e-4},
        "deepspeed.optimizer.params.lr is 0.001, but training.learningRate is 0.0002",
        'set training.learningRate: 0.001, or write "auto" in the DeepSpeed configuration',
    ),
    (
        {"gradient_clipping": 0.3},
        {},
        "deepspeed.gradient_clipping is 0.3, but training.maxGradNorm is 1.0",
        'set training.maxGradNorm: 0.3, or write "auto" in the DeepSpeed configuration',
    ),
    (
        {"train_micro_batch_size_per_gpu": 8},
        {"perDeviceTrainBatchSize": 4},
        "deepspeed.train_micro_batch_size_per_gpu is 8, but training.perDeviceTrainBatchSize is 4",
        'set training.perDeviceTrainBatchSize: 8, or write "auto" in the DeepSpeed configuration',
    ),
    (
        {"fp16": {"enabled": True}},
        {"precision": "bf16"},
        "deepspeed.fp16.enabled is true, but the job trains in bf16",
        'set training.precision, and write "auto" for deepspeed.fp16.enabled',
    ),
    (
        {"bf16": {"enabled": False}},
        {},
        "deepspeed.bf16.enabled is false, but the job trains in bf16",
        'set training.precision, and write "auto" for deepspeed.bf16.enabled',
    ),
    (
        {"fp16": {"enabled": True}, "bf16": {"enabled": True}},
        {},
        "deepspeed enables both bf16 and fp16",
        'enable one of them, or write "auto"',
    ),
    (
        {"scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": "auto"}}},
        {"lrSchedulerType": "cosine"},
        "deepspeed.scheduler is WarmupLR, but training.lrSchedulerType is 'cosine'",
        "set training.lrSchedulerType: constant_with_warmup, or leave deepspeed.scheduler out",
    ),
    (
        {"scheduler": {"type": "OneCycle"}},
        {},
        "deepspeed.scheduler is 'OneCycle', but training.lrSchedulerType is 'cosine'",
        "leave deepspeed.scheduler out, and describe the schedule in training",
    ),
    (
        {"scheduler": {"type": "WarmupLR", "params": {"warmup_type": "log"}}},
        {"lrSchedulerType": "constant_with_warmup"},
        "deepspeed.scheduler.params.warmup_type is 'log', which no schedule of training does",
        "set it to 'linear', or leave it out",
    ),
    (
        {"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 7}}},
        {"lrSchedulerType": "constant_with_warmup", "warmupSteps": 5},
        "deepspeed.scheduler.params.warmup_num_steps is 7, but training.warmupSteps is 5.0",
        'set training.warmupSteps: 7, or write "auto" in the DeepSpeed configuration',
    ),
    (
        {"optimizer": {"type": "AdamW", "params": {"betas": [0.9, 0.95]}}},
        {},
        "deepspeed.optimizer.params.betas is [0.9, 0.95], but training.adamBeta1 and adamBeta2 are [0.9, 0.999]",
        'set those two fields, or write "auto" in the DeepSpeed configuration',
    ),
    (
        {"optimizer": {"type": "AdamW"}},
        {"arguments": {"optim": "adafactor"}},
        "deepspeed.optimizer and training.arguments.optim both choose an optimizer",
        "leave one of them out",
    ),
    ({"amp": {"enabled": True}}, {}, "deepspeed.amp cannot be set there", "set training.precision"),
    (
        {"zero_optimization": {"cpu_offload": True}},
        {},
        "deepspeed.zero_optimization.cpu_offload cannot be set there",
        "write offload_optimizer: {device: cpu}",
    ),
    (
        {"zero_optimization": {"stage": 7}},
        {},
        "deepspeed.zero_optimization.stage is 7: Input should be 'auto', 0, 1, 2 or 3",
        "see zero.stage",
    ),
    (
        {"activation_checkpointing": {"number_checkpoints": "auto"}},
        {},
        'deepspeed.activation_checkpointing.number_checkpoints is "auto", and zerotune knows no value for it',
        "write a value, or leave it out for DeepSpeed's default",
    ),
]


@pytest.mark.parametrize(("own", "training", "message", "hint"), CONTRADICTIONS)
def test_what_contradicts_the_spec_is_rejected(
    plan_training: PlanOf, own: Any, training: Any, message: str, hint: str
) -> None:
    """D7: nothing of the spec is silently overruled."""
    with pytest.raises(ConfigurationError) as caught:
        plan_training(deepspeed=own, training=training, topology=GPUS)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [("WarmupLR", "constant_with_warmup"), ("WarmupDecayLR", "linear"), ("WarmupCosineLR", "cosine")],
)
def test_a_schedule_that_agrees_is_carried_out_by_transformers(plan_training: PlanOf, kind: str, schedule: str) -> None:
    """D7: two schedules cannot both step; the one of `training` does, and the note says so."""
    params = {"warmup_min_lr": 0, "warmup_max_lr": "auto", "warmup_num_steps": "auto", "total_num_steps": "auto"}
    plan = plan_training(
        deepspeed={"scheduler": {"type": kind, "params": params}}, training={"lrSchedulerType": schedule}
    )
    assert "scheduler" not in settings(plan)
    assert config(plan).training.lr_scheduler_type == schedule
    assert plan.notes == (f"deepspeed.scheduler {kind} runs as training.lrSchedulerType {schedule}",)


def test_an_optimizer_without_hyperparameters_gets_those_of_the_spec(plan_training: PlanOf) -> None:
    """DeepSpeed's own default for the learning rate is 1e-3."""
    plan = plan_training(
        deepspeed={"optimizer": {"type": "Adam", "params": {"torch_adam": False}}},
        training={"learningRate": 3e-5, "weightDecay": 0.1, "adamBeta2": 0.95},
    )
    assert settings(plan)["optimizer"] == {
        "type": "Adam",
        "params": {"lr": 3e-5, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1, "torch_adam": False},
    }


leaves = st.integers() | st.text(max_size=5) | st.booleans() | st.lists(st.integers(), max_size=2)
objects = st.recursive(
    st.dictionaries(st.sampled_from("abcd"), leaves, max_size=3),
    lambda children: st.dictionaries(st.sampled_from("abcd"), leaves | children, max_size=3),
    max_leaves=12,
)


@given(objects, objects)
def test_a_merge_keeps_all_of_the_user_and_what_the_user_did_not_touch(base: Any, own: Any) -> None:
    merged = merge(base, own)
    assert merge(merged, own) == merged
    assert all(merged[key] == value for key, value in own.items() if not isinstance(value, dict))
    assert all(merged[key] == value for key, value in base.items() if key not in own)


ours = st.fixed_dictionaries(
    {},
    optional={
        "steps_per_print": st.integers(1, 10_000),
        "prescale_gradients": st.booleans(),
        "communication_data_type": st.sampled_from(["fp32", "fp16"]),
        "zero_optimization": st.fixed_dictionaries(
            {},
            optional={
                "overlap_comm": st.booleans(),
                "reduce_bucket_size": st.integers(1_000, 10**9) | st.just("auto"),
                "round_robin_gradients": st.booleans(),
                "stage3_max_live_parameters": st.integers(0, 10**9) | st.just("auto"),
            },
        ),
        "zero_force_ds_cpu_optimizer": st.booleans(),
    },
)


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {
        key: leaf for name, item in value.items() for key, leaf in _leaves(item, f"{path}.{name}".strip(".")).items()
    }


@pytest.mark.slow
@given(own=ours)
def test_the_plan_keeps_the_users_values_and_leaves_no_auto(plan_training: PlanOf, own: Any) -> None:
    plan = plan_training(deepspeed=own, zero={"stage": 2})
    result, given_values = _leaves(settings(plan)), _leaves(own)
    assert {path: result[path] for path, value in given_values.items() if value not in ("auto", {})} == {
        path: value for path, value in given_values.items() if value not in ("auto", {})
    }
    assert "auto" not in [value for value in result.values() if isinstance(value, str)]
