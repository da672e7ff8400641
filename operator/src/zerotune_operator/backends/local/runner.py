"""One job on this machine, from its first attempt to its end: a loop that has the driver make step after step.

A poll and Ctrl-C wake the driver here, and `status.json` receives the status of every step.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import Attempt, JobStatus, RootCause
from zerotune_operator.backends.driver import Driver, Step
from zerotune_operator.backends.local.backend import LocalBackend
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.lifecycle.attempts import under_way
from zerotune_operator.lifecycle.deadlines import pause
from zerotune_operator.lifecycle.job_events import new_warnings
from zerotune_operator.lifecycle.observation import Observation
from zerotune_operator.plan import Plan

_POLL_SECONDS = 0.5


class View(Protocol):
    """Shows a user how the job goes."""

    def planned(self, plan: Plan, attempt: int) -> None:
        """An attempt starts."""

    def observed(self, status: JobStatus, seen: Observation) -> None:
        """The job was observed."""

    def restarting(self, cause: RootCause, seconds: float) -> None:
        """An attempt failed, and another one follows."""

    def lost(self, failure: str) -> None:
        """A replica was lost, and is started again alone."""

    def warned(self, text: str) -> None:
        """The ranks warn of something."""

    def stopping(self) -> None:
        """The nodes were asked to stop."""


class Runner:
    """Runs a job whose folder is locked.

    Args:
        job: The job.
        folder: Its folder: receives the status.
        backend: Runs its attempts.
        view: Shows them.
    """

    def __init__(self, job: Job, folder: JobFolder, backend: LocalBackend, view: View) -> None:
        self._folder, self._backend, self._view = folder, backend, view
        self._driver, self._stopping_driver = (
            Driver(each, backend, _POLL_SECONDS, _now) for each in (job, _suspended(job))
        )
        self._stop, self._kill = asyncio.Event(), asyncio.Event()
        self._shows_stop = False
        self._restarts = 0

    def ask_to_stop(self, *, again_kills: bool) -> None:
        """Stop after a checkpoint; with `again_kills`, as Ctrl-C has it, kill where that was asked for before."""
        (self._kill if again_kills and self._stop.is_set() else self._stop).set()

    async def run(self, status: JobStatus) -> JobStatus:
        """Run to the end, from a status that says Planned.

        Raises:
            ZerotuneError: the job cannot go on.
        """
        self._folder.write_status(status)
        try:
            while under_way(status) or status.phase in ("Planned", "Restarting"):
                step = await self._step(status)
                status = step.status
                await self._sleep(step.again or 0.0)
        finally:
            await self._backend.finalize(status)
        return status

    async def _step(self, status: JobStatus) -> Step:
        if self._kill.is_set():
            self._backend.kill()
        driver = self._stopping_driver if self._stop.is_set() else self._driver
        step = await driver.step(status)
        if step.status != status:
            self._folder.write_status(step.status)
        self._show(step, status)
        return step

    def _show(self, step: Step, before: JobStatus) -> None:
        status = step.status
        if step.plan is not None:
            self._view.planned(step.plan, status.attempts[-1].number)
        if step.seen is None:
            return
        for text in new_warnings(before, status):
            self._view.warned(text)
        self._show_lost(status.attempts[-1])
        self._view.observed(status, step.seen)
        if under_way(status):
            self._show_stop()
        elif status.phase == "Restarting":
            assert status.root_cause is not None, "an attempt that is made again has failed"
            self._view.restarting(status.root_cause, pause(status, _now()))

    def _show_lost(self, attempt: Attempt) -> None:
        if attempt.replica_restarts > self._restarts:
            self._view.lost(attempt.replica_failure or "")
        self._restarts = attempt.replica_restarts

    def _show_stop(self) -> None:
        if self._stop.is_set() and not self._shows_stop:
            self._shows_stop = True
            self._view.stopping()

    async def _sleep(self, seconds: float) -> None:
        """Until the next step is due, or until the user asks for something."""
        asked = self._kill if self._stop.is_set() else self._stop
        if asked.is_set():
            await asyncio.sleep(seconds)
        with suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), seconds)


def _now() -> datetime:
    return datetime.now(UTC)


def _suspended(job: Job) -> Job:
    """The job as if the user had set `runPolicy.suspend`."""
    policy = job.spec.run_policy.model_copy(update={"suspend": True})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"run_policy": policy})})
