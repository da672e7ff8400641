"""Numbers of things, as messages have them."""

from __future__ import annotations

import pytest

from zerotune_trainer.counting import counted


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 nodes"), (1, "1 node"), (2, "2 nodes"), (4096, "4096 nodes"), (16384, "16,384 nodes")],
)
def test_one_thing_is_singular_and_large_numbers_are_grouped(count: int, said: str) -> None:
    assert counted(count, "node") == said


def test_a_plural_of_its_own_is_given() -> None:
    assert (counted(1, "entry", "entries"), counted(2, "entry", "entries")) == ("1 entry", "2 entries")
