"""Launchers are polled over a network: in pieces, not at all, or by servers that mean harm."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from tests.unit.kubernetes.hostile_launchers import (
    BODY,
    HONEST,
    Answer,
    endless,
    endless_headers,
    gzip_bomb,
    honest,
    redirect,
    serving,
    silent,
    slow_drip,
)
from zerotune_operator.backends.kubernetes.cache import Key
from zerotune_operator.backends.kubernetes.fair_queue import FairQueue
from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_operator.backends.kubernetes.objects import INDEX_ANNOTATION, Object
from zerotune_operator.backends.kubernetes.poller import Poller, Target
from zerotune_operator.backends.kubernetes.progress_client import ProgressClient
from zerotune_trainer.progress import NodeProgress, TopologyEntry

pytestmark = pytest.mark.slow

LIMIT = 64 * 1024
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HONEST_JOB = Key("FineTuneJob", "honest", "tune")
WHOLE = NodeProgress(
    job="tune",
    attempt=0,
    host="tune-a0-0",
    ranks=[],
    topology=[
        TopologyEntry(rank=rank, local_rank=rank % 8, host=f"tune-a0-{rank // 8}", hostname="h", device="cuda:0", pid=1)
        for rank in range(512)
    ],
)


def test_an_answer_that_comes_in_pieces_is_read_to_its_end() -> None:
    content = WHOLE.model_dump_json(by_alias=True).encode()
    assert asyncio.run(_asked([content[:14480], content[14480:]])) == WHOLE


def test_half_of_an_answer_is_none() -> None:
    content = WHOLE.model_dump_json(by_alias=True).encode()
    assert asyncio.run(_asked([content[:14480]])) is None


@pytest.mark.parametrize("answer", [gzip_bomb, slow_drip, endless, endless_headers, silent])
def test_a_hostile_answer_is_none_after_seconds_and_few_bytes(answer: Answer) -> None:
    async def act() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = asyncio.get_running_loop().time()
        async with serving(answer) as port:
            assert await _fetched(port) is None
        assert asyncio.get_running_loop().time() - began < 3
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "KiB"

    asyncio.run(act())


def test_a_redirect_is_not_followed_to_where_a_pod_points() -> None:
    async def act() -> None:
        reached: list[int] = []

        async def internal(writer: asyncio.StreamWriter) -> None:
            reached.append(1)
            await honest(writer)

        async with serving(internal) as target, serving(redirect(target)) as port:
            assert await _fetched(port) is None
        assert not reached

    asyncio.run(act())


def test_the_operator_asks_for_no_encoding() -> None:
    async def act() -> None:
        heads: list[bytes] = []

        async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await honest(writer)
            writer.close()

        async with await asyncio.start_server(record, "127.0.0.1", 0) as server:
            assert await _fetched(server.sockets[0].getsockname()[1]) == BODY
        assert b"Accept-Encoding: identity" in heads[0]

    asyncio.run(act())


def test_a_reconcile_reads_what_is_known_and_waits_for_no_pod() -> None:
    async def act() -> None:
        answered: list[Key] = []
        launchers = Launchers(0.2, answered.append)
        async with serving(silent) as quiet, serving(honest) as port:
            began = asyncio.get_running_loop().time()
            assert launchers.known(Key("FineTuneJob", "a", "quiet"), _pods("quiet"), quiet, NOW) == {}
            assert launchers.known(HONEST_JOB, _pods("tune"), port, NOW) == {}
            assert asyncio.get_running_loop().time() - began < 0.1
            await _until(lambda: bool(answered))
            assert launchers.known(HONEST_JOB, _pods("tune"), port, NOW) == {"tune-0": HONEST}
            assert set(answered) == {HONEST_JOB}
            await launchers.close()

    asyncio.run(act())


def test_a_launcher_that_nobody_wants_any_more_is_not_polled() -> None:
    async def act() -> None:
        asked = 0

        async def ask(_: Target) -> NodeProgress:
            nonlocal asked
            asked += 1
            return HONEST

        poller = Poller(ask, 0.01, lambda _: None)
        poller.want(_targets("a", 1)[0])
        await _until(lambda: len(poller) == 0)
        assert 2 <= asked <= 10
        await poller.close()

    asyncio.run(act())


@pytest.mark.parametrize(("namespace", "number", "interval"), [("hostile", 400, 3.0), ("honest", 160, 5.0)])
def test_one_honest_job_beside_400_silent_ones_is_read_again_and_again(
    namespace: str, number: int, interval: float
) -> None:
    """Real sockets: the silent ones take a connection and say nothing. In one namespace with them the honest one waits
    at first for a share of the budget, as any of them may be honest. A wait of one after the other would take minutes;
    three intervals leave room on a busy machine.
    """

    async def act() -> None:
        read_at: list[float] = []
        loop = asyncio.get_running_loop()
        launchers = Launchers(interval, lambda key: read_at.append(loop.time()) if key == HONEST_JOB else None)
        async with AsyncExitStack() as stack:
            quiet = await stack.enter_async_context(serving(silent))
            port = await stack.enter_async_context(serving(honest))
            began = loop.time()

            def reconcile_all() -> None:
                for each in range(number):
                    launchers.known(Key("FineTuneJob", namespace, f"quiet-{each}"), _pods(f"q{each}"), quiet, NOW)
                launchers.known(HONEST_JOB, _pods("tune"), port, NOW)

            while len(read_at) < 3 and loop.time() - began < 9 * interval:
                reconcile_all()
                await asyncio.sleep(0.5)
            await launchers.close()
        assert len(read_at) == 3
        assert read_at[0] - began < 3 * interval
        assert all(later - earlier < 3 * interval for earlier, later in pairwise(read_at))

    asyncio.run(act())


def test_silent_launchers_are_asked_less_and_less_often() -> None:
    async def act() -> None:
        times: list[float] = []
        loop = asyncio.get_running_loop()

        async def ask(_: Target) -> None:
            times.append(loop.time())

        poller, target = Poller(ask, 0.05, lambda _: None), _targets("a", 1)[0]
        began = loop.time()
        while loop.time() - began < 1.5:
            assert poller.want(target) is None
            await asyncio.sleep(0.02)
        await poller.close()
        assert 3 <= len(times) <= 7
        assert times[-1] - times[-2] > 4 * (times[1] - times[0])

    asyncio.run(act())


def test_silent_launchers_leave_most_of_the_budget_to_those_that_answer() -> None:
    async def act() -> None:
        in_flight = most = 0

        async def ask(_: Target) -> None:
            nonlocal in_flight, most
            in_flight += 1
            most = max(most, in_flight)
            await asyncio.sleep(0.01)
            in_flight -= 1

        poller = Poller(ask, 0.01, lambda _: None)
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < 0.5:
            for target in _targets("hostile", 300):
                poller.want(target)
            await asyncio.sleep(0.01)
        await poller.close()
        assert most <= 64 + 32

    asyncio.run(act())


def test_a_queue_serves_namespaces_in_turn() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(3):
        queue.put("many", f"many-{number}")
    queue.put("few", "few-0")
    assert [queue.get() for _ in range(5)] == ["many-0", "few-0", "many-1", "many-2", None]


async def _asked(pieces: list[bytes]) -> NodeProgress | None:
    """What is made of an answer that comes in these pieces, after which the connection ends."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)

    launchers = Launchers()
    async with serving(answer) as port:
        found = await launchers.ask(Target(HONEST_JOB, "tune-0", "127.0.0.1", port, LIMIT))
    await launchers.close()
    return found


async def _fetched(port: int) -> bytes | None:
    client = ProgressClient()
    try:
        return await client.fetch("127.0.0.1", port, LIMIT)
    finally:
        await client.close()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


def _targets(namespace: str, number: int) -> list[Target]:
    return [Target(Key("FineTuneJob", namespace, "tune"), f"p{n}", "127.0.0.1", 1, LIMIT) for n in range(number)]


def _pods(name: str) -> tuple[Object, ...]:
    """The pod of a job of one node, which has run for ten seconds."""
    state = {"running": {"startedAt": "2026-01-01T11:59:50Z"}}
    return (
        {
            "metadata": {"name": f"{name}-0", "annotations": {INDEX_ANNOTATION: "0"}},
            "status": {
                "phase": "Running",
                "podIP": "127.0.0.1",
                "containerStatuses": [{"name": "trainer", "state": state}],
            },
        },
    )
