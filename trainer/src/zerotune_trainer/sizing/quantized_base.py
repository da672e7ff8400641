"""Bytes of a base that is quantized while an adapter over it is trained (qlora). Torch-free and pure.

bitsandbytes quantizes the linear layers of the decoder layers: not the head, the embeddings, the norms, nor experts
that transformers keeps in one tensor; an expert that all tokens share is not counted. A weight takes

    nf4, fp4    1/2 byte; a block of 64 has a constant of 1 byte, and 256 constants one of 4 bytes (double quantization,
                arXiv 2305.14314)
    int8        1 byte; a row of a matrix has a constant of 4 bytes
"""

from __future__ import annotations

from zerotune_trainer.config.adapter import Quantization
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.sizing.adapter_parameters import dense_layers

_BLOCK, _CONSTANTS = 64, 256
_OWN_LAYERS = frozenset({"falcon"})
"""Architectures whose linear layers are of a class of their own, which transformers lets bitsandbytes leave alone."""


def quantized_parameters(shape: ModelShape) -> int:
    """Parameters of the layers that are quantized; 0 where none is."""
    if shape.architecture in _OWN_LAYERS:
        return 0
    return shape.layers * sum(inputs * outputs for inputs, outputs in dense_layers(shape))


def largest_matrix(shape: ModelShape) -> int:
    """Parameters of the largest layer that is quantized: while it computes, its weights are there as they were."""
    return max(inputs * outputs for inputs, outputs in dense_layers(shape))


def saved_bytes(shape: ModelShape, quantization: Quantization | None, width: int) -> int:
    """Bytes that a rank needs less for the base.

    Args:
        shape: The base.
        quantization: Its number format; None where it stays as it is.
        width: Bytes of a weight that is not quantized.
    """
    count = quantized_parameters(shape)
    if quantization is None or not count:
        return 0
    if quantization == "int8":
        rows = shape.layers * sum(outputs for _, outputs in dense_layers(shape))
        return width * count - (count + 4 * rows)
    blocks = -(-count // _BLOCK)
    return width * count - (-(-count // 2) + blocks + 4 * -(-blocks // _CONSTANTS))
