"""Rows as the ranks take them: each once an epoch, none lost, and as many batches on every rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch.utils.data import Dataset

from zerotune_trainer.data.labels import IGNORE_INDEX

Row = dict[str, Any]
Batch = dict[str, Any]
Collator = Callable[[list[Row]], Batch]

TOKENS = "token_count"
"""Key of a batch: tokens of its rows, padding excluded. The model does not see it."""


class Rows(Protocol):
    """Rows by number, such as `data.mapped.MappedRows`."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Row: ...


class EvenRows(Dataset[Row]):
    """Rows followed by padding rows, up to a multiple of what the ranks take at once.

    accelerate repeats rows from the start to make the ranks even, which trains on them twice. A padding row has no
    loss: with a loss that is a mean over the tokens of all ranks it changes nothing.
    """

    def __init__(self, rows: Rows, multiple: int) -> None:
        self._rows = rows
        self._length = math.ceil(len(rows) / multiple) * multiple

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Row:
        return self._rows[index] if index < len(self._rows) else padding_row(self._rows[0])


class RankRows(Dataset[Row]):
    """Every `world_size`-th row from `rank` on, then padding rows so that all ranks have as many. For evaluation."""

    def __init__(self, rows: Rows, rank: int, world_size: int) -> None:
        self._rows = rows
        self._indices: Sequence[int] = range(rank, len(rows), world_size)
        self._length = math.ceil(len(rows) / world_size)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Row:
        return self._rows[self._indices[index]] if index < len(self._indices) else padding_row(self._rows[0])


class CountingCollator:
    """A collator whose batches have the number of their tokens."""

    def __init__(self, collator: Collator) -> None:
        self._collator = collator

    def __call__(self, rows: list[Row]) -> Batch:
        """Collate."""
        tokens = sum(len(row["input_ids"]) for row in rows if not is_padding_row(row))
        return {**self._collator(rows), TOKENS: tokens}


def padding_row(row: Row) -> Row:
    """A row of two tokens without loss; the mark on it goes no further than the collator."""
    short = {"input_ids": [row["input_ids"][0]] * 2, "labels": [IGNORE_INDEX, IGNORE_INDEX]}
    return short | ({"seq_lengths": [2]} if "seq_lengths" in row else {})


def is_padding_row(row: Row) -> bool:
    """Whether a row is one of `padding_row`'s. A real row has loss somewhere."""
    return len(row["labels"]) == 2 and all(label == IGNORE_INDEX for label in row["labels"])


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors there."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }
