"""Every row once an epoch, whatever the number of ranks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotune_trainer.training.batches import TOKENS, CountingCollator, EvenRows, RankRows, is_padding_row


def rows(lengths: list[int]) -> list[dict[str, Any]]:
    return [
        {"input_ids": np.full(length, number), "labels": np.full(length, number)}
        for number, length in enumerate(lengths)
    ]


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=40)


@pytest.mark.slow
@given(LENGTHS, st.integers(1, 12))
def test_even_rows_hold_every_row_once_and_blanks(lengths: list[int], multiple: int) -> None:
    even = EvenRows(rows(lengths), multiple)
    made = [even[index] for index in range(len(even))]
    assert len(even) == math.ceil(len(lengths) / multiple) * multiple
    assert [len(row["input_ids"]) for row in made if not is_padding_row(row)] == lengths
    assert all(is_padding_row(row) for row in made[len(lengths) :])


@pytest.mark.slow
@given(LENGTHS, st.integers(1, 5))
def test_ranks_share_the_rows_and_have_as_many(lengths: list[int], world_size: int) -> None:
    ranks = [RankRows(rows(lengths), rank, world_size) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    real = [row for rank in ranks for row in map(rank.__getitem__, range(len(rank))) if not is_padding_row(row)]
    assert sorted(int(row["input_ids"][0]) for row in real) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 12))
def test_batches_count_the_tokens_of_real_rows(lengths: list[int], multiple: int) -> None:
    even = EvenRows(rows(lengths), multiple)
    collator = CountingCollator(lambda taken: {"sizes": [(len(row["input_ids"]), len(row["labels"])) for row in taken]})
    batch = collator([even[index] for index in range(len(even))])
    assert batch.pop(TOKENS) == sum(lengths)
    assert all(ids == labels for ids, labels in batch["sizes"])
