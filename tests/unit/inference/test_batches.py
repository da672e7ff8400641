"""Requests become batches of like length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zerotune_trainer.engines.batches import by_length
from zerotune_trainer.inference.engine import Request


def request(record: int, length: int, longest: int = 0) -> Request:
    return Request(record, [1] * length, longest=longest)


@given(
    lengths=st.lists(st.integers(1, 300), max_size=60),
    size=st.integers(1, 9),
    more=st.integers(1, 8),
    new_tokens=st.integers(0, 200),
)
def test_no_batch_takes_more_than_one_of_the_longest(lengths: list[int], size: int, more: int, new_tokens: int) -> None:
    requests = [request(record, length) for record, length in enumerate(lengths)]
    batches = list(by_length(requests, size, more * size, new_tokens))
    assert sorted(each.record for batch in batches for each in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(each.length for each in batch)
        assert len(batch) * (longest + new_tokens) <= size * (max(lengths) + new_tokens)
        assert len(batch) <= more * size
    assert all(len(batch) >= size for batch in batches[:-1])


def test_short_requests_fill_the_room_of_the_longest() -> None:
    requests = [request(record, length) for record, length in enumerate([10, 90, 10, 10, 10, 10, 10, 90])]
    batches = list(by_length(requests, 2, 16, 10))
    assert [[each.record for each in batch] for batch in batches] == [[1, 7], [0, 2, 3, 4, 5, 6]]


def test_what_is_left_of_a_shard_falls_into_the_same_batches() -> None:
    requests = [request(record, 1 + record % 50, longest=50) for record in range(200)]
    first, *others = by_length(requests, 4, 32, 8)
    done = {each.record for each in first}
    assert list(by_length([each for each in requests if each.record not in done], 4, 32, 8)) == others
