"""Which of the parameters that are offloaded to disk stay in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from zerotune_trainer.sizing.offload import Share

SIZES = some.lists(some.integers(1, 1000), min_size=1, max_size=60)


@given(SIZES, some.floats(0, 1.2))
def test_what_stays_fits_and_leaves_room_for_less_than_one_more(sizes: list[int], part: float) -> None:
    room, share = int(part * sum(sizes)), Share(int(part * sum(sizes)), sum(sizes))
    kept = sum(size for size in sizes if share.take(size))
    assert kept <= room
    assert kept == sum(sizes) or room - kept < max(sizes)


@given(SIZES, some.floats(0, 1))
def test_what_stays_is_spread_over_the_model(sizes: list[int], part: float) -> None:
    share, passed, kept = Share(int(part * sum(sizes)), sum(sizes)), 0, 0
    for size in sizes:
        passed += size
        kept += size if share.take(size) else 0
        assert abs(kept - part * passed) < max(sizes) + 1
