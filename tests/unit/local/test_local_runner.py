"""A job on this machine from its first attempt to its end, with a launcher that does what a test wants of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.local.planning import plan_here
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus, RootCause
from zerotune_operator.backends.local.backend import LocalBackend
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.runner import Runner
from zerotune_operator.lifecycle.observation import Observation
from zerotune_operator.lifecycle.transitions import planned
from zerotune_operator.plan import Plan

pytestmark = pytest.mark.slow


@dataclass
class Log:
    """A view that notes what it is given."""

    runner: Runner | None = None
    interrupts: int = 0
    """How often the user presses Ctrl-C, from when the first attempt runs."""
    again_kills: bool = True
    """Whether it is Ctrl-C that the user presses, and no SIGTERM."""
    lines: list[str] = field(default_factory=list)

    def planned(self, plan: Plan, attempt: int) -> None:
        self.lines.append(f"attempt {attempt} of {plan.topology.nodes} nodes")

    def observed(self, status: JobStatus, _: Observation) -> None:
        # Whether an attempt that ends at once is observed while it runs is a matter of luck.
        self.lines += [str(status.phase)] if status.phase not in ("Running", self.lines[-1]) else []
        if self.interrupts and status.phase == "Running":
            assert self.runner is not None
            self.interrupts -= 1
            self.runner.ask_to_stop(again_kills=self.again_kills)

    def restarting(self, cause: RootCause, seconds: float) -> None:
        self.lines.append(f"{cause.failure_class}, again in {seconds:.0f} s")

    def lost(self, failure: str) -> None:
        self.lines.append(failure)

    def warned(self, text: str) -> None:
        self.lines.append(text)

    def stopping(self) -> None:
        self.lines.append("stopping")


def test_an_attempt_that_fails_is_followed_by_another_after_a_pause(
    home: Home, job: Callable[..., Job], tmp_path: Path
) -> None:
    status, log = _run(home, job(runPolicy={"maxRestarts": 1}), tmp_path, "exit 71", Log())
    assert log.lines == [
        "attempt 0 of 1 nodes",
        "Restarting",
        "OutOfMemory, again in 2 s",
        "attempt 1 of 1 nodes",
        "Failed",
    ]
    assert (status.phase, status.restarts) == ("Failed", 1)
    assert [attempt.outcome for attempt in status.attempts] == ["Failed", "Failed"]
    pause = (status.attempts[1].start_time or _now()) - (status.attempts[0].end_time or _now())
    assert pause.total_seconds() >= 1.9
    assert home.job("FineTuneJob", "cwe").read_status() == status


def test_ctrl_c_stops_after_a_checkpoint_and_says_so_once(home: Home, job: Callable[..., Job], tmp_path: Path) -> None:
    status, log = _run(home, job(), tmp_path, "trap 'sleep 1; exit 143' TERM; sleep 60 & wait", Log(interrupts=1))
    assert log.lines == ["attempt 0 of 1 nodes", "stopping", "Suspended"]
    assert [attempt.outcome for attempt in status.attempts] == ["Stopped"]


def test_sigterm_that_comes_twice_lets_the_ranks_save(home: Home, job: Callable[..., Job], tmp_path: Path) -> None:
    asked_twice = Log(interrupts=2, again_kills=False)
    status, _ = _run(home, job(), tmp_path, "trap 'sleep 1; exit 143' TERM; sleep 60 & wait", asked_twice)
    assert [(attempt.outcome, attempt.exit_code) for attempt in status.attempts] == [("Stopped", 143)]


def test_a_second_ctrl_c_kills_what_does_not_stop(home: Home, job: Callable[..., Job], tmp_path: Path) -> None:
    began = _now()
    status, log = _run(home, job(), tmp_path, "trap '' TERM; sleep 60 & wait", Log(interrupts=2))
    assert log.lines == ["attempt 0 of 1 nodes", "stopping", "Suspended"]
    assert status.phase == "Suspended"
    assert (_now() - began).total_seconds() < 20


@pytest.mark.parametrize("earlier", ["Failed", "Suspended"])
def test_a_run_begins_anew_after_an_earlier_one(
    home: Home, job: Callable[..., Job], tmp_path: Path, earlier: str
) -> None:
    before, _ = _run(home, job(), tmp_path, "exit 64" if earlier == "Failed" else "exit 143", Log())
    assert before.phase == earlier
    status, log = _run(home, job(), tmp_path, "exit 64", Log(), before)
    assert log.lines == ["attempt 1 of 1 nodes", "Failed"]
    assert [attempt.number for attempt in status.attempts] == [0, 1]


def _run(
    home: Home, job: Job, tmp_path: Path, script: str, log: Log, before: JobStatus | None = None
) -> tuple[JobStatus, Log]:
    """Run a job whose launcher is a shell script."""
    launcher = tmp_path / "launcher"
    launcher.write_text(f"#!/bin/bash\n{script}\n")
    launcher.chmod(0o755)
    folder = home.create("FineTuneJob", "cwe")
    with folder.locked() as lock:
        backend = LocalBackend(job, folder, home, lock)
        backend._launcher = str(launcher)
        log.runner = Runner(job, folder, backend, log)
        plan = plan_here(job, folder, home, 0)
        status = asyncio.run(log.runner.run(planned(before or JobStatus(), plan.summary(), _now())))
    return status, log


def _now() -> datetime:
    return datetime.now(UTC)
