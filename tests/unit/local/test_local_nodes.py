"""Real processes under the local backend: one attempt after the other, stopped, killed, and left behind."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.local import backend as local
from zerotune_operator.backends.local.backend import LocalBackend
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.render import LocalAttempt, NodeProcess
from zerotune_operator.lifecycle.observation import AttemptRef, Observation

STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
sys.stdin.read()
"""
FAILS = "import sys; sys.exit(71)"
SAVES = "import sys; print('up', flush=True); sys.stdin.read(); print('saved', flush=True)"


def test_nodes_that_outlive_a_failure_are_stopped_then_killed(
    home: Home, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GRACE_AFTER_FAILURE_SECONDS", 0.5)

    async def run() -> None:
        backend, attempt = await _started(home, job, FAILS, STUBBORN)
        await _until(backend, attempt, lambda seen: seen.nodes[0].state == "ended")
        await backend.stop(attempt)
        assert (await backend.observe(attempt)).nodes[1].state == "running", "it was asked to end, and has some time"
        await asyncio.sleep(0.6)
        await backend.stop(attempt)
        seen = await _until(backend, attempt, lambda seen: seen.all_ended)
        assert [node.exit_code for node in seen.nodes] == [71, -9]

    asyncio.run(run())


def test_nodes_that_save_at_a_users_request_are_not_killed_as_early(
    home: Home, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GRACE_AFTER_FAILURE_SECONDS", 0.0)

    async def run() -> None:
        backend, attempt = await _started(home, job, STUBBORN)
        for _ in range(3):
            await backend.stop(attempt)
        assert (await backend.observe(attempt)).nodes[0].state == "running"
        backend.kill()
        await _until(backend, attempt, lambda seen: seen.all_ended)

    asyncio.run(run())


def test_nodes_save_when_nobody_drives_their_job_any_more(home: Home, job: Callable[..., Job]) -> None:
    async def run() -> str:
        backend, attempt = await _started(home, job, SAVES)
        await backend.finalize(JobStatus())
        await _until(backend, attempt, lambda seen: seen.all_ended)
        return home.job("FineTuneJob", "cwe").attempt(0).log(0).read_text()

    assert asyncio.run(run()) == "up\nsaved\n"


def test_an_attempt_that_was_applied_is_not_started_again(home: Home, job: Callable[..., Job]) -> None:
    async def run() -> str:
        backend, attempt = await _started(home, job, SAVES)
        assert await backend.has_started(0) and not await backend.has_started(1)
        await backend.apply(_attempt(home, SAVES))
        backend.kill()
        await _until(backend, attempt, lambda seen: seen.all_ended)
        return home.job("FineTuneJob", "cwe").attempt(0).log(0).read_text()

    assert asyncio.run(run()).split() == ["up"], "and it may be killed before the end of its line"


def test_parameters_on_disk_go_with_the_nodes_that_left_them(home: Home, job: Callable[..., Job]) -> None:
    folder = home.create("FineTuneJob", "cwe").offloaded
    write = f"import os, sys; os.mkdir('{folder}'); print('up', flush=True); sys.stdin.read()"

    async def run() -> None:
        (folder / "of-an-attempt-before").mkdir(parents=True)
        backend, attempt = await _started(home, job, write)
        assert list(folder.iterdir()) == []
        backend.kill()
        await _until(backend, attempt, lambda seen: seen.all_ended)

    asyncio.run(run())
    assert not folder.exists()


async def _started(home: Home, job: Callable[..., Job], *programs: str) -> tuple[LocalBackend, AttemptRef]:
    """A backend that has started a node for every program, each of which runs."""
    folder = home.create("FineTuneJob", "cwe")
    with folder.locked() as lock:
        backend = LocalBackend(job(topology={"nodes": len(programs)}), folder, home, lock)
        await backend.apply(_attempt(home, *programs))
    attempt = backend.attempt_ref(0, "digest")
    for number, program in enumerate(programs):
        while "up" in program and not folder.attempt(0).log(number).read_text():
            await asyncio.sleep(0.01)
    return backend, attempt


def _attempt(home: Home, *programs: str) -> LocalAttempt:
    folder = home.job("FineTuneJob", "cwe").attempt(0)
    nodes = tuple(
        NodeProcess(
            host=f"127.0.0.{number + 1}",
            command=(sys.executable, "-c", program),
            environment={},
            log=folder.log(number),
            termination_message=folder.termination_message(number),
        )
        for number, program in enumerate(programs)
    )
    return LocalAttempt(number=0, folder=folder.path, files={}, nodes=nodes, progress_port=9)


async def _until(backend: LocalBackend, attempt: AttemptRef, condition: Callable[[Observation], bool]) -> Observation:
    async with asyncio.timeout(20):
        while not condition(seen := await backend.observe(attempt)):
            await asyncio.sleep(0.02)
    return seen
