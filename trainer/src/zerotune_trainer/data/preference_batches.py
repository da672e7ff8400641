"""Rows of preference methods as batches of two sequences each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zerotune_trainer.data.collate import Batch, PaddingCollator, Rows
from zerotune_trainer.data.labels import IGNORE_INDEX
from zerotune_trainer.data.padding_free import LENGTHS, Lengths
from zerotune_trainer.data.replay import SplitRows

Row = dict[str, Any]


@dataclass(frozen=True)
class PreferenceCollator:
    """The first sequences of n rows, and below them the second ones, padded on the right.

    `input_ids`, `labels` (-100 but for completions) and `attention_mask`, int64, (2 n, length), as `PaddingCollator`
    makes them; `weights`, float32, (n,): 0 for a row that fills a batch up, else 1; `reference`, float32, (n, 2): the
    reference's log-probabilities of both completions, 0 where there are none; `desirable`, bool, (n,).
    """

    padding: PaddingCollator
    padding_free: bool = False
    """Whether sequences share rows in the forward pass: then there are their `lengths`, too."""
    flash_attention: bool = False
    """Whether the model computes attention with one of the flash attention kernels."""

    def __call__(self, rows: Rows) -> Batch:
        """Collate."""
        pairs = [_sequences(row) for row in rows]
        sequences = [first for first, _ in pairs] + [second for _, second in pairs]
        lengths = Lengths(tuple(len(each["input_ids"]) for each in sequences), self.flash_attention)
        return {
            **self.padding(sequences),
            **({LENGTHS: lengths} if self.padding_free else {}),
            "weights": torch.tensor([float(_counts(row)) for row in rows]),
            "reference": torch.tensor(np.stack([row.get("reference", np.zeros(2)) for row in rows])).float(),
            "desirable": torch.tensor([bool(row.get("desirable", [0])[0]) for row in rows]),
        }


class RowsWithReference:
    """Rows with the log-probabilities that a reference gives their sequences, (rows, 2), float32."""

    def __init__(self, rows: SplitRows, reference: NDArray[np.float32]) -> None:
        self._rows = rows
        self._reference = reference

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return {**self._rows[index], "reference": self._reference[index]}


def _sequences(row: Row) -> tuple[Row, Row]:
    """The two sequences of a row; of one that fills a batch up, the same twice."""
    lengths = row["seq_lengths"] if "seq_lengths" in row else [len(row["input_ids"])]
    first, second = slice(0, lengths[0]), slice(len(row["input_ids"]) - lengths[-1], None)
    parts = [{name: row[name][part] for name in ("input_ids", "labels")} for part in (first, second)]
    return parts[0], parts[1]


def _counts(row: Row) -> bool:
    return any(label != IGNORE_INDEX for label in row["labels"])
