"""R01: ranks, world size and master follow from nodes and GPUs alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zerotune_operator.api.parallelism import Parallelism
from zerotune_operator.api.topology import Accelerator, Topology
from zerotune_operator.plan import Plan, RuntimeLayout
from zerotune_operator.plan.topology import gpu_memory, plan_topology
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.workload import GIB

PlanOf = Callable[..., Plan]


@pytest.mark.parametrize(
    ("topology", "world_size", "ranks_per_node", "accelerator"),
    [
        ({}, 1, 1, "cpu"),
        ({"nodes": 3}, 3, 1, "cpu"),
        ({"nodes": 2, "processesPerNode": 4}, 8, 4, "cpu"),
        ({"nodes": 4, "gpusPerNode": 8}, 32, 8, "cuda"),
    ],
)
def test_ranks_world_size_and_master_need_no_input(
    plan_training: PlanOf, topology: Any, world_size: int, ranks_per_node: int, accelerator: str
) -> None:
    plan = plan_training(topology=topology)
    assert (plan.topology.world_size, plan.hostfile.world_size) == (world_size, world_size)
    assert plan.hostfile.master.name == "tune-0bfe935e-a0-0.ftj-tune-0bfe935e.default.svc"
    assert [host.slots for host in plan.hostfile.hosts] == [ranks_per_node] * plan.topology.nodes
    assert plan.config.launch.accelerator == accelerator
    summary = plan.summary()
    assert (summary.nodes, summary.world_size, summary.backend) == (plan.topology.nodes, world_size, "kubernetes")


def layout(**known: Any) -> RuntimeLayout:
    return RuntimeLayout(
        hosts=("a",),
        resolve=str,
        model_uri="file:///m",
        output_uri="file:///o",
        checkpoint_uri="file:///o/checkpoints",
        cache_dir="/cache",
        offload_dir="/offloaded",
        **known,
    )


def test_parallelism_divides_the_ranks() -> None:
    topology = Topology(nodes=2, gpus_per_node=8)
    planned = plan_topology(topology, Parallelism(tensor=2, sequence=2), layout())
    assert (planned.world_size, planned.data_parallel) == (16, 4)
    with pytest.raises(ConfigurationError) as caught:
        plan_topology(topology, Parallelism(tensor=6), layout())
    assert caught.value.message == (
        "16 ranks (nodes 2 x 8) cannot be divided into replicas of 6 (parallelism.tensor x sequence x pipeline)"
    )
    assert caught.value.hint == "make the ranks a multiple of 6: 12 or 18"


def test_the_smaller_of_what_spec_and_machine_say_is_planned_with() -> None:
    topology = Topology(gpus_per_node=1, memory="64Gi", accelerator=Accelerator(memory="40Gi"))
    planned = plan_topology(topology, Parallelism(), layout(device_bytes=24 * GIB, node_bytes=128 * GIB))
    assert (planned.device_bytes, planned.node_bytes) == (24 * GIB, 64 * GIB)


@pytest.mark.parametrize(
    ("product", "gibibytes"),
    [
        ("NVIDIA-A10", 22.5),
        ("NVIDIA-A10G", 22.5),
        ("NVIDIA-L4", 22.5),
        ("Tesla-T4", 15),
        ("Tesla-V100-SXM2-32GB", 32),
        ("NVIDIA-A100-SXM4-40GB", 40),
        ("NVIDIA-A100-SXM4-80GB", 80),
        ("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb", 40),
        ("NVIDIA-H100-80GB-HBM3", 80),
        ("NVIDIA-H200", 140.4),
        ("NVIDIA-GH200-480GB", 95.6),
        ("NVIDIA-B200", 179.1),
        ("NVIDIA-H100-PCIe", 79.6),
        ("NVIDIA-H100-NVL", 93.6),
        ("NVIDIA-H20", 95.6),
        ("NVIDIA-GeForce-RTX-3090", 24.0),
        ("NVIDIA-GeForce-RTX-4090", 24.0),
        ("NVIDIA-GeForce-RTX-5090", 31.8),
        ("NVIDIA-RTX-6000-Ada-Generation", 48.0),
        ("NVIDIA-RTX-A6000", 48.0),
        ("NVIDIA-GB200", 185.0),
        ("NVIDIA-B300-SXM6-AC", 268.6),
        ("Unheard-Of", None),
        (None, None),
    ],
)
def test_memory_of_a_gpu_by_its_product(product: str | None, gibibytes: float | None) -> None:
    memory = gpu_memory(Accelerator(product=product))
    assert (None if memory is None else round(memory / GIB, 1)) == gibibytes


def test_memory_given_wins_over_the_product() -> None:
    assert gpu_memory(Accelerator(product="NVIDIA-A10", memory="20Gi")) == 20 * GIB


def test_inference_shares_the_batch_and_rejects_weights_that_do_not_fit(plan_inference: PlanOf) -> None:
    """R50."""
    gpus = {"nodes": 2, "gpusPerNode": 2, "accelerator": {"product": "NVIDIA-A10"}, "memory": "200Gi"}
    plan = plan_inference(on="llama-3.1-8b", globalBatchSize=16, topology=gpus)
    assert (plan.batch.micro, plan.batch.data_parallel) == (4, 4)
    assert plan.summary().per_device_batch_size == 4
    assert plan.generation is not None
    assert plan.generation.weights == 2 * 8_030_261_248
    assert plan.generation.kv_cache == 2 * 2 * 32 * 1024 * 4 * (128 + 256)
    with pytest.raises(ConfigurationError) as caught:
        plan_inference(on="llama-3.1-70b", engine="transformers", topology=gpus)
    assert caught.value.message == (
        "the weights take 131.4 GiB in bf16 with engine transformers, usable are 20.2 GiB of 22.5 GiB"
    )


def test_inference_warns_of_a_batch_that_may_not_fit(plan_inference: PlanOf) -> None:
    gpus = {"gpusPerNode": 1, "accelerator": {"product": "NVIDIA-A10"}}
    data = {"uris": ["s3://data/d.jsonl"], "maxLength": 8000}
    (note,) = plan_inference(on="llama-3.1-8b", topology=gpus, data=data, perDeviceBatchSize=16).notes
    assert note.startswith("16 sequences of 8256 tokens at once need 32.1 GiB of 22.5 GiB: lower perDeviceBatchSize")


def test_a_status_holds_the_memory_of_an_absurd_batch(plan_training: PlanOf) -> None:
    """A larger integer would be rejected by the API server, with the whole status."""
    summary = plan_training("tiny-llama", training={"globalBatchSize": 2**63 - 1}).summary()
    assert summary.device_bytes == summary.node_bytes == 2**63 - 1
