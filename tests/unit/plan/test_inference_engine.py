"""Which engine an InferenceJob gets, by the memory of its weights: a copy a rank, parts of one, parts on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zerotune_operator.plan import Plan
from zerotune_trainer.config import InferConfig
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.workload import GIB

PlanOf = Callable[..., Plan]
BILLIONS_70 = 2 * 70_553_706_496
"""Bytes of the weights of Llama 3.1 70B in bf16."""


def gpus(number: int, memory: str, host: str = "400Gi") -> dict[str, Any]:
    return {"gpusPerNode": number, "accelerator": {"memory": memory}, "memory": host}


def engine_of(plan: Plan) -> tuple[str, str]:
    config = plan.config
    assert isinstance(config, InferConfig)
    return config.engine, config.offload_param


@pytest.mark.parametrize(
    ("topology", "taken", "size"),
    [
        (gpus(1, "180Gi"), ("transformers", "none"), 1),
        (gpus(4, "80Gi"), ("deepspeed", "none"), 2),
        (gpus(4, "48Gi"), ("deepspeed", "none"), 4),
        (gpus(1, "80Gi") | {"nodes": 2}, ("zero", "none"), 1),
        (gpus(1, "80Gi"), ("zero", "cpu"), 1),
        (gpus(4, "24Gi"), ("zero", "cpu"), 1),
    ],
    ids=str,
)
def test_auto_takes_the_first_engine_whose_weights_fit(
    topology: dict[str, Any], taken: tuple[str, str], size: int, plan_inference: PlanOf
) -> None:
    plan = plan_inference(on="llama-3.1-70b", topology=topology)
    assert engine_of(plan) == taken
    assert plan.config.tensor_parallel == size  # type: ignore[union-attr]
    starts = f"engine {taken[0]} is taken: the weights take 131.4 GiB with engine transformers, "
    assert any(note.startswith(starts) for note in plan.notes) == (taken[0] != "transformers")
    assert any(f"each layer is split over {size} ranks of a node" in note for note in plan.notes) == (size > 1)


def test_ranks_of_engine_deepspeed_take_their_shard_and_the_embeddings(plan_inference: PlanOf) -> None:
    asked = {"engine": "deepspeed", "parallelism": {"tensor": 4}}
    plan = plan_inference(on="llama-3.1-70b", topology=gpus(8, "80Gi"), globalBatchSize=64, **asked)
    assert plan.generation is not None
    assert plan.generation.weights == BILLIONS_70 // 4 + 2 * 128_256 * 8192
    assert plan.batch.micro == 8
    one = plan_inference(on="llama-3.1-70b", engine="transformers", topology=gpus(8, "180Gi"), globalBatchSize=64)
    assert one.generation is not None
    assert plan.generation.kv_cache == one.generation.kv_cache  # A quarter of each of four times as many.


def test_engine_vllm_needs_room_for_its_weights_and_one_record(plan_inference: PlanOf) -> None:
    asked = {"engine": "vllm", "parallelism": {"tensor": 4}, "data": {"uris": ["s3://data/d"], "maxLength": 1000}}
    plan = plan_inference(on="llama-3.1-70b", topology=gpus(8, "80Gi"), **asked)
    assert (engine_of(plan), plan.batch.micro) == (("vllm", "none"), 256)
    assert plan.config.tensor_parallel == 4  # type: ignore[union-attr]
    assert plan.generation is not None
    assert plan.generation.kv_cache == 2 * 2 * 80 * 1024 * (1000 + 256)
    with pytest.raises(ConfigurationError, match=r"the weights take .* in bf16 with engine vllm, usable are"):
        plan_inference(on="llama-3.1-70b", topology=gpus(8, "24Gi"), **asked)


@pytest.mark.parametrize("tensor", [3, 16])
def test_engine_vllm_splits_by_heads_and_within_a_node(tensor: int, plan_inference: PlanOf) -> None:
    asked = {"engine": "vllm", "parallelism": {"tensor": tensor}}
    with pytest.raises(ConfigurationError, match=f"parallelism.tensor {tensor} does not divide"):
        plan_inference(on="llama-3.1-70b", topology=gpus(8, "80Gi") | {"nodes": 6}, **asked)


def test_engine_deepspeed_splits_no_further_than_the_weights_ask_for(plan_inference: PlanOf) -> None:
    plan = plan_inference(on="llama-3.1-8b", engine="deepspeed", topology=gpus(8, "12Gi"))
    assert plan.config.tensor_parallel == 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("topology", "taken"),
    [
        (gpus(4, "80Gi"), ("deepspeed", "none")),
        (gpus(1, "80Gi") | {"nodes": 2}, ("zero", "none")),
        (gpus(1, "80Gi"), ("zero", "cpu")),
    ],
    ids=str,
)
def test_an_adapter_runs_with_the_engine_that_its_base_would_get(
    topology: dict[str, Any], taken: tuple[str, str], plan_inference: PlanOf, shape: Callable[[str], ModelShape]
) -> None:
    adapted = shape("llama-3.1-70b").model_copy(update={"base_uri": "s3://models/base"})
    assert engine_of(plan_inference(on=adapted, topology=topology)) == taken


def test_ranks_that_split_a_model_merge_its_adapter_in_host_memory(
    plan_inference: PlanOf, shape: Callable[[str], ModelShape]
) -> None:
    base = shape("llama-3.1-8b")
    nodes = []
    for model in (base, base.model_copy(update={"base_uri": "s3://models/base"})):
        asked = {"engine": "deepspeed", "parallelism": {"tensor": 2}, "topology": gpus(2, "80Gi")}
        generation = plan_inference(on=model, **asked).generation
        assert generation is not None
        nodes.append(generation.node_bytes)
    assert nodes[1] - nodes[0] == 2 * 2 * base.parameters  # A copy in bf16 of each of two ranks.


def test_ranks_of_engine_zero_take_their_part_and_two_layers(plan_inference: PlanOf) -> None:
    plan = plan_inference(on="llama-3.1-70b", engine="zero", topology=gpus(4, "80Gi"))
    assert plan.generation is not None
    assert plan.generation.weights == BILLIONS_70 // 4
    assert 2 * 10**9 < plan.generation.gathered < 3 * 10**9


def test_weights_in_host_memory_leave_the_device_to_the_cache(plan_inference: PlanOf) -> None:
    on_device = plan_inference(on="llama-3.1-8b", engine="zero", topology=gpus(2, "80Gi"))
    on_host = plan_inference(on="llama-3.1-8b", engine="zero", zero={"offloadParam": "cpu"}, topology=gpus(2, "80Gi"))
    assert on_device.generation is not None
    assert on_host.generation is not None
    part = on_device.generation.weights
    assert on_device.generation.device_bytes - on_host.generation.device_bytes == part
    assert on_host.generation.node_bytes - on_device.generation.node_bytes == 2 * part


def test_weights_on_disk_leave_memory_to_a_few_buffers(plan_inference: PlanOf) -> None:
    options = {"engine": "zero", "zero": {"offloadParam": "nvme"}, "precision": "bf16", "perDeviceBatchSize": 1}
    whole = plan_inference(on="llama-3.1-8b", **options, topology={"memory": "8Gi"}).generation
    halves = plan_inference(on="llama-3.1-8b", **options, topology={"memory": "8Gi", "nodes": 2}).generation
    on_gpu = plan_inference(on="llama-3.1-8b", **options, topology=gpus(1, "8Gi", host="8Gi")).generation
    assert whole is not None
    assert halves is not None
    assert on_gpu is not None
    embedding = 2 * 128_256 * 4096
    assert whole.weights == 2 * halves.weights == 2 * 8_030_261_248
    assert (whole.buffers, whole.gathered) == (2 * embedding, 0)
    assert whole.node_bytes == whole.buffers + whole.kv_cache + GIB + whole.in_memory
    assert halves.buffers == halves.gathered == on_gpu.gathered == embedding
    assert on_gpu.device_bytes == embedding + on_gpu.kv_cache + GIB
    assert on_gpu.node_bytes == 2 * embedding + GIB + on_gpu.in_memory


def test_memory_of_the_job_that_nothing_needs_keeps_weights(plan_inference: PlanOf) -> None:
    options = {"engine": "zero", "zero": {"offloadParam": "nvme"}, "precision": "bf16", "perDeviceBatchSize": 1}
    plan = plan_inference(on="llama-3.1-8b", **options, topology={"memory": "8Gi"})
    assert plan.generation is not None
    assert plan.generation.node_bytes == int(0.9 * 8 * GIB)
    assert isinstance(plan.config, InferConfig)
    assert 2 * plan.config.launch.max_in_cpu == plan.generation.in_memory > 3 * GIB
    largest = 2 * 128_256 * 4096
    assert plan.generation.disk_bytes == plan.generation.weights - plan.generation.in_memory + largest


@pytest.mark.parametrize("memory", [{}, {"memory": "64Gi"}])
def test_weights_stay_in_memory_only_where_the_job_was_given_it(memory: dict[str, str], plan_inference: PlanOf) -> None:
    options = {"engine": "zero", "zero": {"offloadParam": "nvme"}, "precision": "bf16", "perDeviceBatchSize": 1}
    needs = plan_inference(on="llama-3.1-8b", **options, topology=memory).generation
    assert needs is not None
    assert needs.in_memory == (needs.weights if memory else 0)


def test_a_model_above_the_memory_of_a_node_runs_from_its_disk_alone(plan_inference: PlanOf) -> None:
    options: dict[str, Any] = {"topology": {"memory": "8Gi"}, "globalBatchSize": 1}
    for engine in ("auto", "transformers", "zero"):
        with pytest.raises(ConfigurationError, match=r"^the weights take 29.9 GiB in fp32") as caught:
            plan_inference(on="llama-3.1-8b", engine=engine, **options)
        assert "with engine: zero and zero.offloadParam: nvme" in caught.value.hint
    on_disk = plan_inference(on="llama-3.1-8b", engine="zero", zero={"offloadParam": "nvme"}, **options)
    assert engine_of(on_disk) == ("zero", "nvme")


def test_buffers_that_do_not_fit_are_rejected(plan_inference: PlanOf) -> None:
    options = {"engine": "zero", "zero": {"offloadParam": "nvme"}, "topology": {"memory": "4Gi"}}
    with pytest.raises(ConfigurationError, match=r"^buffers for the weights take 3.9 GiB in fp32") as caught:
        plan_inference(on="llama-3.1-8b", **options)
    assert "nvme" not in caught.value.hint


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"engine": "transformers"}, "use engine: zero, which partitions the weights"),
        ({"engine": "zero", "zero": {"offloadParam": "none"}}, "use larger GPUs, or use more nodes"),
        ({"topology": gpus(1, "24Gi", host="64Gi")}, "raise topology.memory to 147Gi, or use more nodes"),
    ],
)
def test_weights_that_do_not_fit_are_rejected_with_what_would(
    options: dict[str, Any], remedy: str, plan_inference: PlanOf
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_inference(on="llama-3.1-70b", **({"topology": gpus(1, "24Gi")} | options))
    assert caught.value.message.startswith("the weights take ")
    assert remedy in caught.value.hint
