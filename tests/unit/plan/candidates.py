"""Workloads, and what there is to read of their ZeRO candidates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from zerotune_operator.plan import Plan
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.sizing.memory import ZeroCandidate
from zerotune_trainer.sizing.shape import read_shape
from zerotune_trainer.sizing.workload import Workload, default_settings

PlanOf = Callable[..., Plan]
ShapeOf = Callable[[str], ModelShape]

models = st.builds(
    lambda heads, layers, width, vocab, tied: read_shape(
        {
            "model_type": "llama",
            "hidden_size": 64 * heads,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 64 * width,
            "vocab_size": vocab,
            "tie_word_embeddings": tied,
        }
    ),
    heads=st.integers(1, 128),
    layers=st.integers(1, 40),
    width=st.integers(1, 400),
    vocab=st.integers(100, 200_000),
    tied=st.booleans(),
)


def workload(shape: ModelShape, **changes: Any) -> Workload:
    return Workload.model_validate(
        {
            "shape": shape,
            "precision": "bf16",
            "micro_batch": 1,
            "sequence_length": 2048,
            "data_parallel": 8,
            "ranks_per_node": 8,
            "on_cpu": False,
            "settings": default_settings(shape, on_cpu=False),
            **changes,
        }
    )


def reasons(candidates: tuple[ZeroCandidate, ...]) -> list[tuple[str, str]]:
    return [(candidate.name, candidate.reason) for candidate in candidates]


def peak(candidate: ZeroCandidate) -> int:
    return candidate.device_bytes - candidate.weights - candidate.optimizer - candidate.process
