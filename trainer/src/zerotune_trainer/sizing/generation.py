"""What generating with a copy of the model takes. Torch-free and pure."""

from __future__ import annotations

from zerotune_trainer.config.base import Settings
from zerotune_trainer.sizing.memory import RUNTIME
from zerotune_trainer.sizing.shape import ModelShape
from zerotune_trainer.sizing.workload import Precision, bytes_per_number


class GenerationMemory(Settings):
    """What a rank takes that generates with a copy of the model of its own."""

    model_config = Settings.model_config | {"frozen": True}

    weights: int
    """Bytes, as are the others."""
    kv_cache: int
    """Keys and values of a batch of the longest prompts with the longest answers."""
    device_bytes: int
    node_bytes: int


def generation_memory(
    shape: ModelShape, precision: Precision, sequences: int, length: int, ranks_per_node: int, *, on_cpu: bool
) -> GenerationMemory:
    """Memory of inference: weights, and 2 x layers x kv width numbers a token.

    Args:
        shape: The model.
        precision: Number format of weights and cache.
        sequences: Sequences a rank generates at once, beams counted.
        length: Tokens of the longest of them, prompt and answer.
        ranks_per_node: Copies on a node.
        on_cpu: Whether a rank's device is the node itself.
    """
    width = bytes_per_number(precision)
    weights = width * shape.parameters
    kv_cache = 2 * width * shape.layers * shape.kv_size * sequences * length
    device = weights + kv_cache + RUNTIME
    # Weights pass through the host on their way to a GPU.
    host = device if on_cpu else weights + RUNTIME
    return GenerationMemory(weights=weights, kv_cache=kv_cache, device_bytes=device, node_bytes=host * ranks_per_node)
