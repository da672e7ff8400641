"""Nodes, ranks and what they compute on: all that follows from `topology` and `parallelism`."""

from __future__ import annotations

from typing import Literal

from zerotune_operator.api.parallelism import Parallelism
from zerotune_operator.api.quantity import parse_quantity
from zerotune_operator.api.topology import Accelerator, Topology
from zerotune_operator.plan.layout import RuntimeLayout
from zerotune_trainer.config.base import Settings
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.sizing.devices import memory_mib

_MIB = 1 << 20


class PlannedTopology(Settings):
    """Ranks as they will run."""

    model_config = Settings.model_config | {"frozen": True}

    replicas: int = 1
    """How many times the job runs on these nodes; what follows is of one of them."""
    nodes: int
    ranks_per_node: int
    world_size: int
    data_parallel: int
    """Ranks that see different rows: world size / (tensor x sequence x pipeline)."""
    accelerator: Literal["cuda", "cpu"]
    device_bytes: int | None = None
    """Memory of one GPU; None where unknown, and on CPU."""
    node_bytes: int | None = None
    """Memory of one node; None where unknown."""

    @property
    def all_nodes(self) -> int:
        """Nodes of all replicas."""
        return self.replicas * self.nodes

    @property
    def all_ranks(self) -> int:
        """Ranks of all replicas."""
        return self.replicas * self.world_size


def plan_topology(topology: Topology, parallelism: Parallelism, layout: RuntimeLayout) -> PlannedTopology:
    """Count ranks.

    Raises:
        ConfigurationError: the ranks cannot be divided into replicas of tensor x sequence x pipeline ranks.
    """
    ranks_per_node = topology.gpus_per_node or topology.processes_per_node or 1
    world_size = topology.nodes * ranks_per_node
    replica = parallelism.tensor * parallelism.sequence * parallelism.pipeline
    if world_size % replica:
        raise ConfigurationError(
            f"{world_size} ranks (nodes {topology.nodes} x {ranks_per_node}) cannot be divided into replicas of "
            f"{replica} (parallelism.tensor x sequence x pipeline)",
            f"make the ranks a multiple of {replica}: {' or '.join(map(str, neighbours(world_size, replica)))}",
        )
    on_gpu = topology.gpus_per_node > 0
    return PlannedTopology(
        replicas=topology.replicas,
        nodes=topology.nodes,
        ranks_per_node=ranks_per_node,
        world_size=world_size,
        data_parallel=world_size // replica,
        accelerator="cuda" if on_gpu else "cpu",
        device_bytes=_least(layout.device_bytes, gpu_memory(topology.accelerator)) if on_gpu else None,
        node_bytes=_least(layout.node_bytes, int(parse_quantity(topology.memory)) if topology.memory else None),
    )


def plan_hostfile(planned: PlannedTopology, layout: RuntimeLayout) -> Hostfile:
    """The hosts of the layout, each with its ranks; of several replicas those of each one together."""
    assert len(layout.hosts) == planned.all_nodes, "a backend names every node"
    return Hostfile.of((host, planned.ranks_per_node) for host in layout.hosts)


def gpu_memory(accelerator: Accelerator) -> int | None:
    """Bytes of one GPU: as the spec says, else by its product label; None for a product that is not known."""
    if accelerator.memory is not None:
        return int(parse_quantity(accelerator.memory))
    if accelerator.product is None:
        return None
    known = memory_mib(accelerator.product)
    return None if known is None else known * _MIB


def neighbours(number: int, unit: int) -> list[int]:
    """The multiples of `unit` next to `number`, below and above; no zero."""
    below = number // unit * unit
    return [value for value in (below, below + unit) if value]


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)
