"""The order of an epoch's rows, whatever the number of ranks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import RandomSampler, SequentialSampler

from zerotune_trainer.training.sampling import EpochSampler

ROWS = st.integers(1, 50)
MULTIPLES = st.integers(1, 12)
EPOCHS = st.integers(0, 3)


def order(rows: int, multiple: int, epoch: int, *, shuffled: bool = True) -> list[int]:
    sampler = RandomSampler(range(rows)) if shuffled else SequentialSampler(range(rows))
    epochs = EpochSampler(sampler, rows=rows, multiple=multiple, seed=42)
    epochs.set_epoch(epoch)
    drawn = list(epochs)
    assert len(drawn) == len(epochs)
    return drawn


@given(ROWS, MULTIPLES, EPOCHS)
def test_every_row_is_drawn_once_and_then_blanks(rows: int, multiple: int, epoch: int) -> None:
    drawn = order(rows, multiple, epoch)
    assert len(drawn) % multiple == 0 and len(drawn) - rows < multiple
    assert sorted(drawn[:rows]) == list(range(rows))
    assert all(number >= rows for number in drawn[rows:])


@given(ROWS, MULTIPLES, MULTIPLES, EPOCHS)
def test_another_number_of_ranks_sees_the_same_order(rows: int, multiple: int, other: int, epoch: int) -> None:
    assert order(rows, multiple, epoch)[:rows] == order(rows, other, epoch)[:rows]


def test_each_epoch_has_an_order_of_its_own() -> None:
    assert len({tuple(order(50, 4, epoch)) for epoch in range(4)}) == 4


def test_rows_in_sequence_stay_in_sequence() -> None:
    assert order(5, 4, 1, shuffled=False) == [0, 1, 2, 3, 4, 5, 6, 7]
