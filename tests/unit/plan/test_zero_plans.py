"""The ZeRO stage of a job: what is asked for, what fits, and what is rejected with a remedy (R31)."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml

from tests.unit.plan.candidates import PlanOf
from zerotune_trainer.errors import ConfigurationError

PRESETS = [
    ({"stage": 2}, (2, "none", "none")),
    ({"stage": 3}, (3, "none", "none")),
    ({"stage": 3, "offloadOptimizer": "cpu", "offloadParam": "cpu"}, (3, "cpu", "cpu")),
    ({"stage": 2, "offloadOptimizer": "cpu"}, (2, "cpu", "none")),
    ({"stage": 0}, (0, "none", "none")),
    ({"offloadParam": "cpu"}, (3, "cpu", "cpu")),
    ({"offloadOptimizer": "cpu"}, (2, "cpu", "none")),
]


@pytest.mark.parametrize(("zero", "expected"), PRESETS)
def test_what_is_asked_for_is_taken_on_cpu_too(
    plan_training: PlanOf, zero: Any, expected: tuple[int, str, str]
) -> None:
    plan = plan_training(zero=zero, topology={"nodes": 2, "memory": "8Gi"})
    taken = plan.candidate
    assert taken is not None
    assert (taken.stage, taken.offload_optimizer, taken.offload_param) == expected
    assert plan.deepspeed is not None
    settings = plan.deepspeed["zero_optimization"]
    offloads = {name: settings.get(f"offload_{name}") for name in ("optimizer", "param")}
    wanted = {"cpu": {"device": "cpu", "pin_memory": False}, "none": None}
    assert settings["stage"] == expected[0]
    assert offloads == {"optimizer": wanted[expected[1]], "param": wanted[expected[2]]}


def test_what_does_not_go_together_is_rejected(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(zero={"stage": 3, "offloadOptimizer": "none", "offloadParam": "cpu"}, topology={"memory": "8Gi"})
    assert caught.value.message == "zero.stage 3, offloadOptimizer none and offloadParam cpu do not go together"


H100 = {"gpusPerNode": 8, "accelerator": {"product": "NVIDIA-H100-80GB-HBM3"}, "memory": "1000Gi"}


def test_a_model_that_is_too_large_is_rejected_with_what_would_fit(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-70b", topology=H100)
    assert caught.value.message.startswith(
        "70,553,706,496 parameters in bf16, micro batch 1 of 128 tokens, do not fit on 8 ranks: "
    )
    assert caught.value.hint == "this would fit: topology.nodes: 4"
    assert plan_training(on="llama-3.1-70b", topology=H100 | {"nodes": 4})


def test_a_batch_that_is_too_large_is_rejected_with_what_would_fit(plan_training: PlanOf) -> None:
    long = {"train": {"uris": ["s3://data/d.jsonl"]}, "maxLength": 8192}
    topology = H100 | {"nodes": 2}
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-8b", topology=topology, data=long, training={"perDeviceTrainBatchSize": 64})
    hint = "this would fit: training.perDeviceTrainBatchSize: 1 and training.gradientCheckpointing: true"
    assert caught.value.hint == hint
    smaller = {"perDeviceTrainBatchSize": 1, "gradientCheckpointing": True}
    assert plan_training(on="llama-3.1-8b", topology=topology, data=long, training=smaller)


def test_a_fixed_stage_whose_states_cannot_fit_is_rejected_with_what_would(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-8b", topology=H100, zero={"stage": 0})
    assert caught.value.hint == "this would fit: zero.stage: auto"


def test_a_fixed_stage_that_may_just_fit_is_taken_with_a_warning(plan_training: PlanOf) -> None:
    topology = H100 | {"accelerator": {"memory": "38Gi"}}
    plan = plan_training(on="llama-3.1-8b", topology=topology, zero={"stage": 2, "offloadOptimizer": "none"})
    assert plan.candidate is not None
    assert plan.candidate.name == "ZeRO-2"
    assert plan.notes == ("ZeRO-2 is asked for, but tight: 91% of a GPU, 2% of a node",)


def test_nodes_with_too_little_memory_read_how_much_it_takes(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-8b", topology=H100 | {"memory": "16Gi"})
    assert caught.value.message.endswith("ZeRO-3 takes 23.0 GiB of a node's 16.0 GiB")
    remedy, memory = caught.value.hint.rsplit(" ", 1)
    assert remedy == "this would fit: topology.memory:"
    assert plan_training(on="llama-3.1-8b", topology=H100 | {"memory": memory})


def test_a_cpu_node_with_too_little_memory_reports_how_much_it_takes(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-8b", topology={"memory": "64Gi"}, zero={"stage": 0})
    remedy, memory = caught.value.hint.rsplit(" ", 1)
    assert remedy == "this would fit: topology.memory:"
    assert plan_training(on="llama-3.1-8b", topology={"memory": memory}, zero={"stage": 0})


LONG = {"train": {"uris": ["s3://data/d.jsonl"]}}
TOO_LARGE = {
    "long rows on nodes with little memory": ("200Gi", 2, {"data": LONG | {"maxLength": 8192}}),
    "rows that only fewer tokens make fit": ("2000Gi", 2, {"data": LONG | {"maxLength": 65536}}),
    "eager attention": ("2000Gi", 4, {"data": LONG | {"maxLength": 8192}, "model": {"attnImplementation": "eager"}}),
    "more memory and checkpointing": ("64Gi", 4, {"data": LONG | {"maxLength": 8192}}),
    "a fixed stage, batch and length": (
        "2000Gi",
        4,
        {"data": LONG | {"maxLength": 8192}, "zero": {"stage": 1}, "training": {"perDeviceTrainBatchSize": 8}},
    ),
}


@pytest.mark.parametrize(("memory", "nodes", "spec"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_every_change_that_a_rejection_names_together_makes_the_job_fit(
    plan_training: PlanOf, memory: str, nodes: int, spec: dict[str, Any]
) -> None:
    spec = {"topology": H100 | {"memory": memory, "nodes": nodes}, "model": {}} | copy.deepcopy(spec)
    spec["model"]["uri"] = "s3://models/m"
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-70b", **spec)
    for field, value in re.findall(r"(\w+\.\w+): (\w+)", caught.value.hint.split("; or ")[0]):
        part, name = field.split(".")
        spec.setdefault(part, {})[name] = yaml.safe_load(value)
    plan = plan_training(on="llama-3.1-70b", **spec)
    assert plan.candidate is not None
    assert plan.candidate.verdict == "fits"
