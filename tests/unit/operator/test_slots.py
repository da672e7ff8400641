"""Slots: the urgent go first, nothing waits too long, and no slot is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotune_operator.controller.slots import Slots

pytestmark = pytest.mark.anyio


async def _order(slots: Slots, comers: Sequence[tuple[str, bool]]) -> list[str]:
    """In which order comers acquire the one slot, which is taken when they come."""
    order: list[str] = []

    async def work(name: str, urgent: bool) -> None:
        await slots.acquire(urgent=urgent)
        order.append(name)
        slots.release()

    await slots.acquire(urgent=True)
    tasks = []
    for name, urgent in comers:
        tasks.append(asyncio.create_task(work(name, urgent)))
        await asyncio.sleep(0.001)
    slots.release()
    await asyncio.gather(*tasks)
    return order


async def test_the_urgent_go_first_each_in_the_order_they_came() -> None:
    comers = [("observes", False), ("begins", True), ("observes too", False), ("begins too", True)]
    assert await _order(Slots(1), comers) == ["begins", "begins too", "observes", "observes too"]


async def test_what_has_waited_for_long_goes_before_the_urgent_that_comes_later() -> None:
    assert await _order(Slots(1, patience=0.0), [("observes", False), ("begins", True)]) == ["observes", "begins"]


@given(number=st.integers(1, 3), acts=st.lists(st.tuples(st.booleans(), st.sampled_from(["end", "cancel", "both"]))))
def test_no_slot_is_lost_and_none_is_given_twice(number: int, acts: list[tuple[bool, str]]) -> None:
    async def run() -> None:
        slots, working, most = Slots(number), 0, 0

        async def work(urgent: bool, ends: asyncio.Event) -> None:
            nonlocal working, most
            await slots.acquire(urgent=urgent)
            working += 1
            most = max(most, working)
            try:
                await ends.wait()
            finally:
                working -= 1
                slots.release()

        started = []
        for urgent, end in acts:
            event = asyncio.Event()
            started.append((asyncio.create_task(work(urgent, event)), event, end))
            await asyncio.sleep(0)
        for task, event, end in started:
            if end != "cancel":
                event.set()
            if end != "end":
                task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*(task for task, _, _ in started), return_exceptions=True)
        assert most <= number
        async with asyncio.timeout(1):
            for _ in range(number):
                await slots.acquire(urgent=False)

    asyncio.run(run())
