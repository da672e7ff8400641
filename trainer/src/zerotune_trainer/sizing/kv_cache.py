"""Keys and values that generating keeps of the tokens before. Torch-free and pure."""

from __future__ import annotations

from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.sizing.workload import Precision, bytes_per_number


def kv_cache_bytes(shape: ModelShape, precision: Precision, sequences: int, length: int) -> int:
    """Bytes of `sequences` of `length` tokens: 2 x layers x kv width numbers a token."""
    return 2 * bytes_per_number(precision) * shape.layers * shape.kv_size * sequences * length
