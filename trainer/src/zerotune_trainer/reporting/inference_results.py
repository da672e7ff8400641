"""The figures of a finished InferenceJob: its `results.json`, and those of each of its files."""

from __future__ import annotations

from typing import NamedTuple

from zerotune_trainer.config.base import Settings


class InferenceResults(Settings):
    """An InferenceJob's `results.json`."""

    records: int
    failed_records: int
    """Records that have an `error` instead of a text."""
    files: int
    batches: int
    prompt_tokens: int
    new_tokens: int
    generating_seconds: float
    """Of all batches on all ranks together."""
    tokens_per_second_per_rank: float | None
    median_batch_seconds: float | None
    slowest_batch_seconds: float | None


class FileFigures(NamedTuple):
    """What the batches of one output file took."""

    records: int
    prompt_tokens: int
    new_tokens: int
    seconds: float
