"""Which checkpoints are kept, whatever there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zerotune_trainer.training.checkpoints.retention import Retained, superfluous

CHECKPOINTS = st.dictionaries(st.integers(1, 30), st.booleans()).map(
    lambda found: [Retained(step, usable) for step, usable in found.items()]
)
STEPS = st.integers(1, 30)
LIMITS = st.integers(1, 5)
BEST = st.none() | STEPS


@given(CHECKPOINTS, STEPS, LIMITS, BEST)
def test_the_newest_usable_ones_stay(found: list[Retained], step: int, limit: int, best: int | None) -> None:
    removed = superfluous(found, step=step, limit=limit, best=best)
    usable = sorted(one.step for one in found if one.usable and one.step <= step)
    assert not set(removed) & set(usable[-limit:])
    assert set(usable[:-limit]) - {best} <= set(removed)


@given(CHECKPOINTS, STEPS, LIMITS, BEST)
def test_the_best_and_later_ones_stay(found: list[Retained], step: int, limit: int, best: int | None) -> None:
    removed = superfluous(found, step=step, limit=limit, best=best)
    assert best not in removed
    assert all(other <= step for other in removed)


@given(CHECKPOINTS, STEPS, LIMITS, BEST)
def test_an_unusable_one_takes_nobodys_place(found: list[Retained], step: int, limit: int, best: int | None) -> None:
    usable = [one for one in found if one.usable]
    removed = set(superfluous(found, step=step, limit=limit, best=best))
    assert removed & {one.step for one in usable} == set(superfluous(usable, step=step, limit=limit, best=best))


@given(CHECKPOINTS, STEPS, LIMITS, BEST)
def test_an_unusable_one_goes_only_when_all_of_the_newest_usable_ones_are_newer(
    found: list[Retained], step: int, limit: int, best: int | None
) -> None:
    removed = set(superfluous(found, step=step, limit=limit, best=best))
    newest = sorted(one.step for one in found if one.usable and one.step <= step)[-limit:]
    unusable = [one.step for one in found if not one.usable and one.step in removed]
    assert all(newest and newest[0] > other for other in unusable)


@given(CHECKPOINTS, STEPS, LIMITS, BEST)
def test_what_has_been_sorted_out_once_stays(found: list[Retained], step: int, limit: int, best: int | None) -> None:
    removed = superfluous(found, step=step, limit=limit, best=best)
    left = [one for one in found if one.step not in removed]
    assert superfluous(left, step=step, limit=limit, best=best) == []
