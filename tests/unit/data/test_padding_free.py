"""Sequences of a batch that share rows: each token has one place, and no row is longer than the longest sequence."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zerotune_trainer.data.padding_free import Lengths, share_rows

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=24).map(tuple)


@given(sizes=SIZES, flattens=st.booleans())
def test_every_sequence_lies_whole_in_one_row_and_no_two_overlap(sizes: tuple[int, ...], flattens: bool) -> None:
    rows = share_rows(Lengths(sizes, flattens))
    count, length = rows.shape
    assert length == (sum(sizes) if flattens else max(sizes))
    assert len(set(rows.places.tolist())) == len(rows.places) == sum(sizes)
    assert rows.places.min() >= 0 and rows.places.max() < count * length
    for places in np.split(rows.places, np.cumsum(sizes)[:-1]):
        assert places.tolist() == list(range(places[0], places[0] + len(places)))
        assert places[0] // length == places[-1] // length


@given(sizes=SIZES, flattens=st.booleans())
def test_the_order_is_that_in_which_the_sequences_lie(sizes: tuple[int, ...], flattens: bool) -> None:
    rows = share_rows(Lengths(sizes, flattens))
    begins = [int(places[0]) for places in np.split(rows.places, np.cumsum(sizes)[:-1])]
    assert list(rows.order) == sorted(range(len(sizes)), key=begins.__getitem__)


@given(sizes=SIZES)
def test_no_two_rows_would_fit_into_one(sizes: tuple[int, ...]) -> None:
    count, length = share_rows(Lengths(sizes)).shape
    assert count <= len(sizes)
    assert count == 1 or sum(sizes) * 2 > count * length, "best fit leaves no two rows that are half empty"


def test_lengths_of_some_sequences_are_theirs() -> None:
    assert Lengths((5, 3, 2, 1), True).of(slice(2, None)) == Lengths((2, 1), True)
