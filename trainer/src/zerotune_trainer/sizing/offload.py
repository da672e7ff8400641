"""The buffers through which parameters pass that lie on a disk (`zero.offloadParam: nvme`). Torch-free and pure.

DeepSpeed keeps `buffer_count` buffers of `buffer_size` elements, and each holds one parameter's partition, whatever its
size (runtime/swap_tensor/partitioned_param_swapper.py of DeepSpeed 0.19). A module's parameters are read when it runs,
one more is read meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from zerotune_trainer.config.model_shape import ModelShape

SMALLEST_OFFLOADED = 1 << 20
"""Bytes of the smallest partition that DeepSpeed writes to disk, MIN_AIO_BYTES of runtime/swap_tensor/utils.py. Smaller
ones stay in host memory."""


@dataclass(frozen=True)
class Buffers:
    """The pool of a rank."""

    count: int
    size: int
    """Elements of one: those of the largest partition."""


class Share:
    """Evenly many of what passes by, as far as there is room.

    Args:
        room: What may be taken.
        of: What will pass by, in all.
    """

    def __init__(self, room: int, of: int) -> None:
        self._room, self._of = room, of
        self._passed = self._taken = 0

    def take(self, size: int) -> bool:
        """Whether the next, of this size, is taken."""
        self._passed += size
        is_taken = (self._taken + size) * self._of <= self._room * self._passed
        self._taken += size if is_taken else 0
        return is_taken


def planned_buffers(shape: ModelShape, ranks: int) -> Buffers:
    """The most that a rank needs for a model of `shape` that `ranks` ranks share."""
    # A mixture of experts has all experts' gates, and all their outputs, in a parameter each of one module.
    at_once = 2 if shape.experts_per_token else 1
    return Buffers(at_once + 1, -(-largest_parameter(shape) // ranks))


def largest_parameter(shape: ModelShape) -> int:
    """Elements of the largest parameter, or a few more: the embedding, or that of an MLP whose gate is fused with its
    input; in a mixture of experts no parameter is larger than a layer."""
    if shape.experts_per_token:
        return shape.largest_layer
    mlp = 2 * (shape.mlp_size or 4 * shape.hidden_size) * shape.hidden_size
    return min(shape.largest_layer, max(shape.vocab_size * shape.hidden_size, mlp))
