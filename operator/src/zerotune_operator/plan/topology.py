"""Nodes, ranks and what they compute on: all that follows from `topology` and `parallelism`."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Literal

from zerotune_operator.api.parallelism import Parallelism
from zerotune_operator.api.quantity import parse_quantity
from zerotune_operator.api.topology import Accelerator, Topology
from zerotune_operator.plan.layout import RuntimeLayout
from zerotune_trainer.config.base import Settings
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.hostfile import Hostfile

_MIB = 1 << 20

_MEMORY_MIB = {
    "t4": 15360,
    "a10": 23028,
    "a10g": 23028,
    "a30": 24576,
    "a40": 46068,
    "a6000": 49140,
    "l4": 23034,
    "l40": 46068,
    "l40s": 46068,
    "rtx 3090": 24576,
    "rtx 4090": 24564,
    "rtx 5090": 32607,
    "6000 ada": 49140,
    "pro 6000": 97887,
    "h100 pcie": 81559,
    "h100 nvl": 95830,
    "h20": 97871,
    "h200": 143771,
    "gh200": 97871,
    "b200": 183359,
    "gb200": 189471,
    "b300": 275040,
}
"""Memory of GPUs whose product label does not say it, in MiB as the driver reports it."""


class PlannedTopology(Settings):
    """Ranks as they will run."""

    model_config = Settings.model_config | {"frozen": True}

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


def plan_topology(topology: Topology, parallelism: Parallelism, layout: RuntimeLayout) -> PlannedTopology:
    """Count ranks.

    Raises:
        ConfigurationError: the ranks cannot be dealt to replicas of tensor x sequence x pipeline ranks.
    """
    ranks_per_node = topology.gpus_per_node or topology.processes_per_node or 1
    world_size = topology.nodes * ranks_per_node
    replica = parallelism.tensor * parallelism.sequence * parallelism.pipeline
    if world_size % replica:
        raise ConfigurationError(
            f"{world_size} ranks (nodes {topology.nodes} x {ranks_per_node}) cannot be dealt to replicas of {replica} "
            f"(parallelism.tensor x sequence x pipeline)",
            f"make the ranks a multiple of {replica}: {' or '.join(map(str, neighbours(world_size, replica)))}",
        )
    on_gpu = topology.gpus_per_node > 0
    return PlannedTopology(
        nodes=topology.nodes,
        ranks_per_node=ranks_per_node,
        world_size=world_size,
        data_parallel=world_size // replica,
        accelerator="cuda" if on_gpu else "cpu",
        device_bytes=_least(layout.device_bytes, gpu_memory(topology.accelerator)) if on_gpu else None,
        node_bytes=_least(layout.node_bytes, int(parse_quantity(topology.memory)) if topology.memory else None),
    )


def plan_hostfile(planned: PlannedTopology, layout: RuntimeLayout) -> Hostfile:
    """The hosts of the layout, each with its ranks."""
    assert len(layout.hosts) == planned.nodes, "a backend names every node"
    return Hostfile.of((host, planned.ranks_per_node) for host in layout.hosts)


def gpu_memory(accelerator: Accelerator) -> int | None:
    """Bytes of one GPU: as the spec says, else by its product label; None for a product that is not known."""
    if accelerator.memory is not None:
        return int(parse_quantity(accelerator.memory))
    if accelerator.product is None:
        return None
    name = accelerator.product.lower()
    words = re.split(r"[^a-z0-9.]+", name)
    # Two words say more than one: an H100-NVL has more memory than an H100.
    pairs = [" ".join(pair) for pair in pairwise(words)]
    known = next((_MEMORY_MIB[word] for word in (*pairs, *words) if word in _MEMORY_MIB), None)
    slice_or_size = re.search(r"mig-\d+g\.(\d+)gb", name) or re.search(r"(\d+)gb", name)
    if slice_or_size and (known is None or "mig-" in name):
        known = int(slice_or_size[1]) * 1024
    return None if known is None else known * _MIB


def neighbours(number: int, unit: int) -> list[int]:
    """The multiples of `unit` next to `number`, below and above; no zero."""
    below = number // unit * unit
    return [value for value in (below, below + unit) if value]


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)
