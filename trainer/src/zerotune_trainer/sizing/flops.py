"""Model FLOPs utilization (MFU): what of the devices' peak the model's own arithmetic takes. Torch-free and pure.

As in PaLM (arXiv 2204.02311, appendix B): a trained token takes 6 N + 12 L q s floating-point operations, with N
parameters, L layers, queries of width q and rows of s tokens. What is computed again with gradient checkpointing does
not count. Under an adapter it is 4 N: the parameters are frozen and have no gradients. Of a mixture of experts, N are
the parameters that a token goes through.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.sizing.devices import peak_flops


def flops_per_token(shape: ModelShape, length: float, *, frozen: bool = False) -> float:
    """Floating-point operations of forward and backward pass for one token.

    Args:
        shape: The model.
        length: Tokens of a row.
        frozen: Whether the parameters have no gradients, as under an adapter, whose own few are not counted.
    """
    queries = shape.query_size or shape.hidden_size
    return (4 if frozen else 6) * _parameters_of_a_token(shape) + 12 * shape.layers * queries * length


def _parameters_of_a_token(shape: ModelShape) -> int:
    if not shape.experts_per_token:
        return shape.parameters
    attention = 2 * shape.hidden_size * ((shape.query_size or shape.hidden_size) + shape.kv_size)
    mlp = 3 * shape.hidden_size * (shape.mlp_size or 4 * shape.hidden_size)
    return shape.layers * (attention + mlp) + shape.vocab_size * shape.hidden_size


@dataclass(frozen=True)
class Utilization:
    """Turns a job's speed into its share of what the devices can compute."""

    shape: ModelShape
    peak: float
    """Floating-point operations a second of all ranks' devices together."""
    frozen: bool = False
    """Whether the parameters have no gradients."""

    @classmethod
    def of_devices(
        cls, shape: ModelShape, devices: Iterable[str], precision: str, *, frozen: bool = False
    ) -> Utilization | None:
        """For the devices of all ranks, by name; None where a peak is not known: on CPU, in fp32, on a GPU of which
        there is no data sheet here.
        """
        peaks = [peak_flops(device) for device in devices]
        known = [peak for peak in peaks if peak]
        if precision == "fp32" or not known or len(known) < len(peaks):
            return None
        return cls(shape, sum(known), frozen)

    def at(self, tokens_per_second: float, length: float) -> float:
        """The MFU at as many tokens of all ranks a second, in rows of as many tokens."""
        return tokens_per_second * flops_per_token(self.shape, length, frozen=self.frozen) / self.peak
