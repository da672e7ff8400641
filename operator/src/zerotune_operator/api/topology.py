"""`spec.topology`: replicas, nodes and ranks, and the GPUs they have."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from zerotune_operator.api.quantity import Quantity
from zerotune_trainer.config.base import Rule, Settings


class Accelerator(Settings):
    """What kind of GPU the nodes have."""

    resource: str = "nvidia.com/gpu"
    """Extended resource that a pod requests."""
    product: str | None = None
    """GPU product as the node label `nvidia.com/gpu.product` names it, e.g. NVIDIA-H100-80GB-HBM3."""
    memory: Quantity | None = None
    """Memory of one GPU, for the choice of ZeRO stage. Default: that of `product` where it is known."""


class Topology(Settings):
    """Nodes and ranks. Ranks, world size and addresses follow from it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.minNodes) || self.minNodes <= self.nodes",
            "minNodes must not exceed nodes: lower minNodes or raise nodes",
            "minNodes",
        ),
        Rule(
            "self.replicas * self.nodes <= 4096",
            "replicas x nodes, the pods of a job, must not exceed 4096: lower one of them",
            "replicas",
        ),
        Rule(
            "!has(self.processesPerNode) || self.gpusPerNode == 0",
            "processesPerNode is for nodes without GPUs, where gpusPerNode is 0: a GPU always gets one rank",
            "processesPerNode",
        ),
        Rule(
            "self.gpusPerNode > 0 || !has(self.accelerator.product) && !has(self.accelerator.memory)",
            "accelerator describes the GPUs of a node, and gpusPerNode is 0: set gpusPerNode, or leave it out",
            "accelerator",
        ),
    )

    replicas: int = Field(default=1, ge=1, le=4096)
    """Of an InferenceJob: how many times it runs on `nodes` nodes, each time independently. The replicas share the
    records; one that is lost comes back alone. It may be changed while the job is suspended."""
    nodes: int = Field(default=1, ge=1, le=4096)
    """Nodes (pods, hosts) the job runs on, or each of its replicas."""
    min_nodes: int | None = Field(default=None, ge=1, le=4096)
    """Fewest nodes the job may go on with."""
    gpus_per_node: int = Field(default=0, ge=0, le=64)
    """GPUs of a node, a rank each. 0: the job runs on CPU."""
    processes_per_node: int | None = Field(default=None, ge=1, le=128)
    """Ranks of a node that runs on CPU. Default: 1. On GPUs it is `gpusPerNode`."""
    accelerator: Accelerator = Accelerator()
    """Kind of GPU."""
    cpu: Quantity | None = None
    """CPUs a node's pod requests."""
    memory: Quantity | None = None
    """Memory a node's pod is given, for the choice of ZeRO stage and as the pod's request and limit."""
