"""General text mixed into the rows to train on, in an order that the seed decides."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerotune_trainer.data.mapped import MappedRows

Numbers = NDArray[np.int64]
"""Numbers of rows, in order."""


class MixedRows:
    """Rows with chosen rows of general text among them, at even distances.

    Args:
        rows: The rows to train on.
        general: Rows of general text.
        chosen: Which of those, in order; one may be there several times.
    """

    def __init__(self, rows: MappedRows, general: MappedRows, chosen: Numbers) -> None:
        self._rows = rows
        self._general = general
        self._order = _interleaved(len(rows), len(chosen))
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> dict[str, NDArray[np.int32]]:
        """A row.

        Raises:
            IndexError: there is none of this number.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        number = int(self._order[index])
        own = len(self._rows)
        return self._rows[number] if number < own else self._general[int(self._chosen[number - own])]

    def longest(self) -> int:
        """Tokens of the longest row; where documents share rows, of the longest document."""
        return max(self._rows.longest(), self._general.longest())

    def largest_id(self) -> int:
        """The largest token id of all rows, of general text also of those that are not chosen."""
        return max(self._rows.largest_id(), self._general.largest_id())


SplitRows = MappedRows | MixedRows
"""The rows of a part of the data."""


def choose_replay(tokens: int, lengths: NDArray[Any], share: float, seed: int) -> Numbers:
    """Which rows of general text are mixed in: at random, each as often as the others, give or take one.

    Args:
        tokens: Of the rows to train on.
        lengths: Tokens of each row of general text.
        share: Of general text in all tokens; as near as whole rows come to it, and at least one row.
        seed: Of the choice.
    """
    wanted = tokens * share / (1 - share)
    passes = math.ceil(wanted / int(lengths.sum()))
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(len(lengths)) for _ in range(passes)])
    reached = np.cumsum(lengths[order], dtype=np.int64)
    return order[: int(np.argmin(np.abs(reached - wanted))) + 1]


def _interleaved(rows: int, others: int) -> Numbers:
    """Numbers of rows below `rows`, and of others from there on, each kind at even distances."""
    places = np.concatenate([(np.arange(count) + 0.5) / count for count in (rows, others)])
    return np.argsort(places, kind="stable")
