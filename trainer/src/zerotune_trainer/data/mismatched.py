"""Completions after the prompts of others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerotune_trainer.data.labels import IGNORE_INDEX
from zerotune_trainer.data.mapped import MappedRows


class MismatchedRows(MappedRows):
    """Rows of one sequence, each followed by its prompt with the completion of the row before it.

    kto estimates the divergence from the reference by such mismatched sequences. TRL pairs the rows of a batch as they
    are stored; here those of the whole set are, so that it does not depend on the number of ranks. Where both are too
    long together, the beginning of the prompt is left out.

    Args:
        rows: The rows.
        longest: The most tokens of a sequence.
    """

    def __init__(self, rows: MappedRows, longest: int) -> None:
        super().__init__(rows.path)
        self._longest = longest
        self._rows = rows

    def __getitem__(self, index: int) -> dict[str, NDArray[np.int32]]:
        """A row.

        Raises:
            IndexError: there is none of this number.
        """
        row, other = super().__getitem__(index), super().__getitem__(index - 1 if index else len(self) - 1)
        completion = other["input_ids"][_prompt(other) :]
        prompt = row["input_ids"][: _prompt(row)]
        prompt = prompt[max(0, len(prompt) + len(completion) - self._longest) :]
        ids = np.concatenate([row["input_ids"], prompt, completion])
        labels = np.concatenate([row["labels"], np.full_like(prompt, IGNORE_INDEX), completion])
        lengths = np.array([len(row["input_ids"]), len(prompt) + len(completion)], dtype=np.int32)
        return {**row, "input_ids": ids, "labels": labels, "seq_lengths": lengths}

    def longest(self) -> int:
        """Tokens of the longest sequence, or more: no mismatched one is longer than `data.maxLength`."""
        return self._longest if len(self) > 1 else super().longest()

    def __reduce__(self) -> tuple[type[MappedRows], tuple[Any, ...]]:
        return type(self), (self._rows, self._longest)


def _prompt(row: dict[str, NDArray[np.int32]]) -> int:
    return int(np.argmax(row["labels"] != IGNORE_INDEX))
