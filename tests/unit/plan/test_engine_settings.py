"""The user's own DeepSpeed settings and arguments count in the memory estimate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zerotune_operator.plan import Plan
from zerotune_trainer.errors import ConfigurationError

PlanOf = Callable[..., Plan]
GPUS = {"gpusPerNode": 8, "accelerator": {"product": "NVIDIA-H100-80GB-HBM3"}, "memory": "2000Gi"}


def bytes_of(plan: Plan, name: str, candidate: int = 3) -> Any:
    return getattr(plan.candidates[candidate], name)


CHANGES: list[tuple[str, dict[str, Any], str, int]] = [
    ("buckets", {"deepspeed": {"zero_optimization": {"reduce_bucket_size": 5e8}}}, "buffers", 1),
    ("live parameters", {"deepspeed": {"zero_optimization": {"stage3_max_live_parameters": 3e9}}}, "buffers", 3),
    ("prefetched", {"deepspeed": {"zero_optimization": {"stage3_prefetch_bucket_size": 1e9}}}, "buffers", 3),
    ("fp32 gradients", {"deepspeed": {"data_types": {"grad_accum_dtype": "fp32"}}}, "gradients", 2),
    ("foreach AdamW", {"training": {"arguments": {"optim": "adamw_torch"}}}, "step", 2),
]


@pytest.mark.parametrize(
    ("spec", "part", "candidate"), [case[1:] for case in CHANGES], ids=[case[0] for case in CHANGES]
)
def test_a_setting_that_takes_memory_is_counted(
    plan_training: PlanOf, spec: dict[str, Any], part: str, candidate: int
) -> None:
    plain = plan_training(on="llama-3.1-8b", topology=GPUS)
    own = plan_training(on="llama-3.1-8b", topology=GPUS, **spec)
    assert bytes_of(own, part, candidate) > bytes_of(plain, part, candidate)


def test_an_optimizer_with_less_state_takes_less(plan_training: PlanOf) -> None:
    sizes = []
    for name in ("adamw_torch_fused", "lion_32bit", "adamw_bnb_8bit", "sgd"):
        training = {"arguments": {"optim": name}}
        plan = plan_training(on="llama-3.1-8b", topology=GPUS, training=training, zero={"stage": 2})
        sizes.append(bytes_of(plan, "optimizer", 2))
    share = 8_030_261_248 // 8
    assert sizes == [12 * share, 8 * share, 6 * share, 4 * share]


@pytest.mark.parametrize("validation", [{"validation": {"uris": ["s3://ddd/v"]}}, {"validationFraction": 0.1}])
def test_the_evaluation_batch_is_counted(plan_training: PlanOf, validation: dict[str, Any]) -> None:
    data = {"train": {"uris": ["s3://ddd/t"]}, **validation, "maxLength": 1024}
    training = {"gradientCheckpointing": True, "perDeviceEvalBatchSize": 64}
    plan = plan_training(on="llama-3.1-8b", topology=GPUS, data=data, training=training)
    assert bytes_of(plan, "peak") == "evaluation"
    never = {"evalStrategy": "no"}
    assert (
        bytes_of(plan_training(on="llama-3.1-8b", topology=GPUS, data=data, evaluation=never), "peak") != "evaluation"
    )


@pytest.mark.parametrize("beams", [1, 4])
def test_keys_and_values_of_texts_that_evaluations_generate_are_counted(plan_training: PlanOf, beams: int) -> None:
    data = {"train": {"uris": ["s3://ddd/t"]}, "validation": {"uris": ["s3://ddd/v"]}, "maxLength": 1024}
    training = {"gradientCheckpointing": True, "perDeviceEvalBatchSize": 64}
    texts = {"maxSamples": 64, "maxNewTokens": 512, "numBeams": beams}
    without, with_texts = (
        plan_training(on="llama-3.1-8b", topology=GPUS, data=data, training=training, evaluation=evaluation)
        for evaluation in ({}, {"generation": texts})
    )
    # Each of eight ranks has eight of the prompts; 32 layers of 1,024 numbers for keys, and as many for values.
    more = bytes_of(with_texts, "device_bytes", 2) - bytes_of(without, "device_bytes", 2)
    assert more == 2 * 2 * 32 * 1024 * (64 // 8 * beams) * (1024 + 512)


@pytest.mark.parametrize(
    ("size", "rule"),
    [
        ("large", "must be of type integer"),
        (True, "must be of type integer"),
        ([1], "must be of type integer"),
        (-1, "DeepSpeed [0-9.]+ does not take"),
        (1e300, "is no number of elements"),
    ],
)
def test_a_size_that_is_no_number_is_rejected_with_the_rule(plan_training: PlanOf, size: object, rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rule):
        plan_training(deepspeed={"zero_optimization": {"reduce_bucket_size": size}})
