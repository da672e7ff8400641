"""The work queue forgets no key and works on none twice at a time."""

import asyncio
from collections import Counter

import pytest

from zerotune_operator.controller.slots import Slots
from zerotune_operator.controller.workqueue import WorkQueue

pytestmark = pytest.mark.anyio


async def _until(condition: object, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_a_key_that_is_added_while_it_is_worked_on_is_worked_on_again_afterwards() -> None:
    calls, at_once, most = 0, 0, 0

    async def work(key: str) -> None:
        nonlocal calls, at_once, most
        at_once += 1
        most = max(most, at_once)
        calls += 1
        if calls == 1:
            queue.add(key)
            queue.add(key)
        await asyncio.sleep(0.01)
        at_once -= 1

    queue: WorkQueue[str] = WorkQueue(work, Slots())
    queue.add("a")
    await _until(lambda: len(queue) == 0)

    assert (calls, most) == (2, 1)


async def test_many_additions_make_one_call_at_the_earliest_time() -> None:
    calls: Counter[str] = Counter()

    async def work(key: str) -> None:
        calls[key] += 1

    queue: WorkQueue[str] = WorkQueue(work, Slots())
    queue.add("a", after=60)
    for _ in range(5):
        queue.add("a", after=0.05)
    queue.add("b")
    await _until(lambda: len(queue) == 0)

    assert calls == {"a": 1, "b": 1}


async def test_work_may_ask_to_be_called_again() -> None:
    calls = 0

    async def work(_: str) -> float | None:
        nonlocal calls
        calls += 1
        return 0.01 if calls < 3 else None

    queue: WorkQueue[str] = WorkQueue(work, Slots())
    queue.add("a")
    await _until(lambda: len(queue) == 0)

    assert calls == 3


async def test_work_that_fails_is_repeated_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    async def work(_: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("the first time")

    queue: WorkQueue[str] = WorkQueue(work, Slots())
    queue.add("a")
    await _until(lambda: len(queue) == 0)

    assert calls == 2
    assert "a: failed 1 time in a row, again in 1s" in caplog.text
    assert "the first time" in caplog.text


async def test_no_more_keys_are_worked_on_at_a_time_than_there_are_slots() -> None:
    at_once, most, done = 0, 0, 0

    async def work(_: int) -> None:
        nonlocal at_once, most, done
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        done += 1

    queue: WorkQueue[int] = WorkQueue(work, Slots(3))
    for key in range(10):
        queue.add(key)
    await _until(lambda: len(queue) == 0)

    assert (done, most) == (10, 3)


async def test_closing_cuts_off_what_runs_and_drops_the_rest() -> None:
    logged: list[str] = []

    async def work(key: str) -> float:
        logged.append(f"{key} begun")
        try:
            await asyncio.sleep(0.05)
            logged.append(f"{key} done")
        finally:
            logged.append(f"{key} over")
        return 0.0

    queue: WorkQueue[str] = WorkQueue(work, Slots())
    queue.add("runs")
    queue.add("later", after=60)
    await asyncio.sleep(0.02)
    await queue.close()
    await asyncio.sleep(0.1)

    assert logged == ["runs begun", "runs over"]
