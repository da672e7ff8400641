"""Where the sequences of a batch lie once several of them share a row, so that little or nothing is padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

LENGTHS = "lengths"
"""Key of a batch: the `Lengths` of its sequences, where they are to share rows. The model does not see it."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of the sequences of a batch, in their order."""

    sizes: tuple[int, ...]
    flattens: bool = False
    """Whether all share one row, as the varlen kernels of flash attention take them; else no row is longer than the
    longest sequence, as any other attention costs the square of a row."""

    def of(self, sequences: slice) -> Lengths:
        """Those of some of the sequences."""
        return replace(self, sizes=self.sizes[sequences])


@dataclass(frozen=True)
class SharedRows:
    """Sequences in rows, one behind the other."""

    places: NDArray[np.int64]
    """Of each token, sequence after sequence, (tokens,): its number in the flattened rows."""
    shape: tuple[int, int]
    """Rows, and tokens of each."""
    order: tuple[int, ...]
    """The sequences as they lie, row after row."""


def share_rows(lengths: Lengths) -> SharedRows:
    """Lay the sequences of a batch into rows, as TRL's `pack_dataset` does the rows of a whole data set."""
    sizes = lengths.sizes
    length = sum(sizes) if lengths.flattens else max(sizes)
    rows = _best_fit(sizes, length)
    begins = np.zeros(len(sizes), dtype=np.int64)
    for number, sequences in enumerate(rows):
        taken = [sizes[sequence] for sequence in sequences]
        begins[sequences] = number * length + np.cumsum(taken) - taken
    places = np.concatenate([begin + np.arange(size) for begin, size in zip(begins, sizes, strict=True)])
    return SharedRows(places, (len(rows), length), tuple(sequence for row in rows for sequence in row))


def _best_fit(sizes: Sequence[int], length: int) -> list[list[int]]:
    """The sequences of each row by best fit decreasing (Johnson 1974): the longest first, where least stays free."""
    rows, free = list[list[int]](), list[int]()
    for sequence in sorted(range(len(sizes)), key=lambda each: -sizes[each]):
        fitting = [row for row, left in enumerate(free) if left >= sizes[sequence]]
        row = min(fitting, key=free.__getitem__, default=len(rows))
        if row == len(rows):
            rows.append([])
            free.append(length)
        rows[row].append(sequence)
        free[row] -= sizes[sequence]
    return rows
