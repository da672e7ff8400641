"""Labels: which tokens of a row count in the loss, and whether a model can learn any of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zerotune_trainer.data.masks import Span

IGNORE_INDEX = -100
"""The label of a token that does not count in the loss (torch.nn.CrossEntropyLoss `ignore_index`)."""


def labels_of(ids: list[int], spans: list[Span]) -> list[int]:
    """Labels that count within the spans."""
    labels = [IGNORE_INDEX] * len(ids)
    for begin, end in spans:
        labels[begin:end] = ids[begin:end]
    return labels


def is_learnable(labels: NDArray[np.int32]) -> bool:
    """Whether a model that predicts the next token learns any of a row: its first token follows from nothing."""
    return bool((labels[1:] != IGNORE_INDEX).any())


def learnable_rows(labels: NDArray[np.int32], rows: Sequence[int], documents: Sequence[int]) -> NDArray[np.bool_]:
    """Which rows of several have a token that a model can learn.

    Args:
        labels: Those of all rows, end to end.
        rows: Lengths of the rows.
        documents: Lengths of what is kept apart in them: nothing precedes the first token of a document.
    """
    counted = labels != IGNORE_INDEX
    counted[_begins(documents)] = False
    return np.add.reduceat(counted, _begins(rows)) > 0 if len(rows) else np.zeros(0, dtype=bool)


def _begins(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *lengths[:-1]], dtype=np.int64) if len(lengths) else np.zeros(0, dtype=np.int64)
