"""Values in a user's DeepSpeed configuration that DeepSpeed rejects when the engine is made, or ignores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zerotune_operator.plan import Plan
from zerotune_operator.plan.deepspeed import merge
from zerotune_trainer.errors import ConfigurationError

PlanOf = Callable[..., Plan]

GPUS = {"gpusPerNode": 2, "accelerator": {"product": "NVIDIA-H100-80GB-HBM3"}, "memory": "200Gi"}


@pytest.mark.parametrize(
    ("own", "rule"),
    [
        ({"data_types": {"grad_accum_dtype": "int3"}}, "one of torch.float16, fp16"),
        ({"communication_data_type": "int9"}, "one of fp16, fp32, bf16"),
        ({"gradient_allreduce_op": "most"}, "one of mean, sum"),
        ({"checkpoint": {"tag_validation": "perhaps"}}, "one of warn, ignore, fail"),
        ({"zero_optimization": {"offload_optimizer": {"device": "cpu", "ratio": 2}}}, "a number of at most 1"),
        ({"zero_optimization": {"sub_group_size": -1}}, "a number of at least 0"),
        ({"steps_per_print": 0}, "a number above 0"),
        ({"steps_per_print": 2.5}, "a whole number"),
        ({"steps_per_print": "often"}, "a whole number"),
        ({"wall_clock_breakdown": "yes"}, "true or false"),
        ({"gradient_predivide_factor": "half"}, "a number"),
        ({"activation_checkpointing": {"number_checkpoints": "x"}}, "a whole number"),
        ({"data_types": {"keep_in_fp32_modules": 7}}, "a list"),
        ({"log_level": 5}, "one of debug, info"),
        ({"log_level": "loud"}, "one of debug, info"),
        ({"optimizer": {"type": "AdamW", "params": [{"lr": 1e-3}]}}, "a group of keys"),
    ],
    ids=str,
)
def test_values_that_deepspeed_rejects_or_ignores_are_rejected_with_the_rule(
    plan_training: PlanOf, own: Any, rule: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(deepspeed=own, topology=GPUS)
    assert caught.value.message.startswith(f"deepspeed.{next(iter(own))}")
    assert caught.value.hint.startswith(f"write {rule}")


def test_values_that_deepspeed_takes_in_several_ways_are_accepted(plan_training: PlanOf) -> None:
    own = {
        "communication_data_type": "FP32",
        "checkpoint": {"tag_validation": "Warn"},
        "zero_optimization": {"reduce_bucket_size": 5e8},
    }
    plan = plan_training(deepspeed=own, topology=GPUS)
    assert plan.deepspeed is not None
    assert merge(plan.deepspeed, own) == plan.deepspeed
