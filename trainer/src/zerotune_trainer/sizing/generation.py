"""What generating takes: with a copy of the model on every rank, or with one that all hold. Torch-free and pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.sizing.kv_cache import kv_cache_bytes
from zerotune_trainer.sizing.memory import RUNTIME
from zerotune_trainer.sizing.offload import planned_buffers
from zerotune_trainer.sizing.tensor_parallel import shard_parameters
from zerotune_trainer.sizing.workload import Precision, bytes_per_number, default_settings

OffloadParam = Literal["none", "cpu", "nvme"]


class GenerationMemory(Settings):
    """What a rank takes that generates."""

    model_config = Settings.model_config | {"frozen": True}

    weights: int
    """Bytes of the weights that the rank keeps, as are the others: all, or its part of them."""
    gathered: int = 0
    """Weights that are there while they are needed, where ranks keep parts of them: to compute, or to merge an adapter
    into them."""
    buffers: int = 0
    """Host memory through which weights pass that lie on disk."""
    in_memory: int = 0
    """Those of the weights that stay in host memory nevertheless, as there is room for them."""
    kv_cache: int
    """Keys and values of a batch of the longest prompts with the longest answers."""
    device_bytes: int
    node_bytes: int
    disk_bytes: int = 0
    """Weights on a disk of the node, of all its ranks."""


class Generating(NamedTuple):
    """What is generated, and on what."""

    shape: ModelShape
    precision: Precision
    """Number format of weights and cache."""
    sequences: int
    """Sequences a rank generates at once, beams counted."""
    length: int
    """Tokens of the longest of them, prompt and answer."""
    ranks: int
    ranks_per_node: int
    on_cpu: bool
    """Whether a rank's device is the node itself."""

    @property
    def weights(self) -> int:
        """Bytes of all weights."""
        return bytes_per_number(self.precision) * self.shape.parameters

    @property
    def kv_cache(self) -> int:
        """Bytes of keys and values."""
        return kv_cache_bytes(self.shape, self.precision, self.sequences, self.length)


def memory_of_copies(what: Generating) -> GenerationMemory:
    """Memory of engine `transformers`: every rank has all weights."""
    device = what.weights + what.kv_cache + RUNTIME
    # Weights pass through the host on their way to a GPU.
    host = device if what.on_cpu else what.weights + RUNTIME
    return GenerationMemory(
        weights=what.weights, kv_cache=what.kv_cache, device_bytes=device, node_bytes=host * what.ranks_per_node
    )


def memory_of_shards(what: Generating, size: int) -> GenerationMemory:
    """Memory of engine `deepspeed`: each layer is split over `size` ranks, which generate for `size` times as many
    records together, each with its part of their keys and values.

    Each rank takes its shard out of the files of the weights, which it maps into memory and does not read whole. Where
    the model is an adapter each merges it first, into a copy of the weights in host memory, which is gone before the
    keys and values come.
    """
    shard = bytes_per_number(what.precision) * shard_parameters(what.shape, size)
    merged = what.weights if what.shape.base_uri else 0
    on_device = max(merged, what.kv_cache) if what.on_cpu else what.kv_cache
    device = shard + on_device + RUNTIME
    host = device if what.on_cpu else shard + merged + RUNTIME
    return GenerationMemory(
        weights=shard,
        gathered=merged if what.on_cpu else 0,
        kv_cache=what.kv_cache,
        device_bytes=device,
        node_bytes=host * what.ranks_per_node,
    )


def with_room_filled(memory: GenerationMemory, what: Generating, room: int) -> GenerationMemory:
    """The memory of engine `zero` with parts on disk, where some of them stay in host memory.

    Args:
        memory: What is needed.
        what: What is generated.
        room: Bytes of a node that nothing else needs.
    """
    part, ranks = memory.weights, what.ranks_per_node
    kept = min(max(room, 0) // ranks, part)
    # Parameters stay or do not as a whole, so that the last may not fit.
    largest = bytes_per_number(what.precision) * planned_buffers(what.shape, what.ranks).size
    return memory.model_copy(
        update={
            "in_memory": kept,
            "device_bytes": memory.device_bytes + (kept if what.on_cpu else 0),
            "node_bytes": memory.node_bytes + kept * ranks,
            "disk_bytes": min(part, part - kept + largest) * ranks,
        }
    )


def memory_of_parts(what: Generating, offload_param: OffloadParam) -> GenerationMemory:
    """Memory of engine `zero`: the weights are partitioned over all ranks, and gathered a few layers at a time."""
    if offload_param == "nvme":
        return _memory_of_parts_on_disk(what)
    part = -(-what.weights // what.ranks)
    settings = default_settings(what.shape, on_cpu=what.on_cpu)
    at_once = settings.max_live_parameters + settings.prefetch_bucket_size
    offloads = offload_param == "cpu" and not what.on_cpu
    # A rank that has all parameters on its device gathers nothing.
    gathers = what.ranks > 1 or offloads
    gathered = bytes_per_number(what.precision) * min(what.shape.parameters, at_once) if gathers else 0
    device = (0 if offloads else part) + gathered + what.kv_cache + RUNTIME
    host = device if what.on_cpu else RUNTIME + (part if offloads else 0)
    return GenerationMemory(
        weights=part,
        gathered=gathered,
        kv_cache=what.kv_cache,
        device_bytes=device,
        node_bytes=host * what.ranks_per_node,
    )


def _memory_of_parts_on_disk(what: Generating) -> GenerationMemory:
    """The same with the parts on the disks of the nodes: of them, memory holds the buffers that they are read into."""
    part, width = -(-what.weights // what.ranks), bytes_per_number(what.precision)
    pool = planned_buffers(what.shape, what.ranks)
    buffers = width * pool.count * pool.size
    # A module is released when it has run. One rank on CPU computes with the buffers themselves.
    gathers = what.ranks > 1 or not what.on_cpu
    gathered = width * what.shape.largest_layer if gathers else 0
    device = gathered + what.kv_cache + RUNTIME + (buffers if what.on_cpu else 0)
    host = device if what.on_cpu else RUNTIME + buffers
    return GenerationMemory(
        weights=part,
        gathered=gathered,
        buffers=buffers,
        kv_cache=what.kv_cache,
        device_bytes=device,
        node_bytes=host * what.ranks_per_node,
        disk_bytes=part * what.ranks_per_node,
    )
