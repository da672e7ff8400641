"""Which models DeepSpeed's AutoTP splits over ranks, and over how many. Torch-free and pure."""

from __future__ import annotations

from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError

ARCHITECTURES = frozenset(
    {"bloom", "falcon", "gemma", "gemma2", "gemma3_text", "gpt_neox", "gptj", "granite", "llama", "mistral", "olmo"}
    | {"opt", "phi", "qwen2", "qwen3", "smollm3", "stablelm", "starcoder2"}
)
"""`model_type`s whose logits are the same with and without AutoTP of DeepSpeed 0.19 under transformers 5. It rejects
gpt2, splits others wrongly (olmo2, phi3, gpt_bigcode), and leaves the experts of a mixture of experts whole."""


def check_tensor_parallel(shape: ModelShape, size: int) -> None:
    """See that a model can be split over `size` ranks.

    Raises:
        ConfigurationError: its architecture is not split, or its attention heads do not divide into as many parts.
    """
    if size > 1 and shape.architecture not in ARCHITECTURES:
        raise ConfigurationError(
            f"DeepSpeed's AutoTP does not split models of type {shape.architecture} correctly",
            "use engine: zero, which partitions the weights of any model, or engine: transformers",
        )
    if not divides(shape, size):
        valid = [each for each in range(2, shape.heads + 1) if divides(shape, each)]
        raise ConfigurationError(
            f"parallelism.tensor {size} does not divide the {shape.heads} attention heads and {_kv_heads(shape)} "
            "key-value heads of the model",
            f"set parallelism.tensor to {' or '.join(map(str, valid))}" if valid else "use engine: zero",
        )


def divides(shape: ModelShape, size: int) -> bool:
    """Whether each of `size` ranks gets as many attention heads, and as many key-value heads, as the others."""
    return shape.heads % size == 0 and _kv_heads(shape) % size == 0


def shard_parameters(shape: ModelShape, size: int) -> int:
    """Parameters of a rank: its part of all layers and of the head, and the whole embeddings, which are not split.

    That is exact, but for norms and biases, where embeddings and head are tied, and a little more than it takes where
    they are not.
    """
    if size == 1:
        return shape.parameters
    positions = (shape.context or 0) if shape.learned_positions else 0
    return -(-shape.parameters // size) + (shape.vocab_size + positions) * shape.hidden_size


def _kv_heads(shape: ModelShape) -> int:
    return shape.kv_size * shape.heads // (shape.query_size or shape.hidden_size)
