"""Sampling whose chance belongs to the record: the same texts whatever the batch, the rank or the restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from zerotune_trainer.config.generation import Generation


class Sampling(NamedTuple):
    """Among which tokens is drawn, and how."""

    temperature: float
    top_k: int
    top_p: float


def sampling_of(generation: Generation) -> Sampling:
    """The options of sampling, as transformers defaults them; the schema leaves open which of them are given."""
    return Sampling(
        temperature=1.0 if generation.temperature is None else generation.temperature,
        top_k=50 if generation.top_k is None else generation.top_k,
        top_p=1.0 if generation.top_p is None else generation.top_p,
    )


class DrawByRecord(LogitsProcessor):
    """Draws each row's next token by inverting the cumulative distribution at that row's own random number.

    What it returns leaves only the token drawn, so greedy selection takes it. `draws`: [rows, positions], in [0, 1).
    """

    def __init__(self, draws: torch.Tensor) -> None:
        self.draws = draws
        self.position = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:  # noqa: ARG002
        """`scores` with all but the token drawn made impossible."""
        cumulative = scores.double().softmax(-1).cumsum(-1)
        target = self.draws[:, self.position, None] * cumulative[:, -1:]
        self.position += 1
        token = torch.searchsorted(cumulative, target, right=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)  # type: ignore[return-value]


def draws(seed: int, records: Sequence[int], sequences: int, positions: int) -> torch.Tensor:
    """Random numbers in [0, 1), float64, [records x sequences, positions]; a record's hang on it and the seed."""
    numbers = [np.random.default_rng((seed, record)).random((sequences, positions)) for record in records]
    return torch.from_numpy(np.concatenate(numbers))


def seed_of(seed: int, record: int) -> int:
    """One number from both, for torch's own generator, which beam sampling draws from."""
    return int(np.random.SeedSequence((seed, record)).generate_state(1, np.uint64)[0])


def sampler(generation: Generation, records: Sequence[int], device: torch.device) -> LogitsProcessorList:
    """Temperature, top-k and top-p in transformers' order, then the draw."""
    numbers = draws(generation.seed, records, generation.num_return_sequences, generation.max_new_tokens)
    steps, sampling = LogitsProcessorList(), sampling_of(generation)
    if sampling.temperature != 1.0:
        steps.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k > 0:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        steps.append(TopPLogitsWarper(sampling.top_p))
    steps.append(DrawByRecord(numbers.to(device)))
    return steps
