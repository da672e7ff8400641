"""Follows one job on SageMaker from this machine, from its first attempt to its end, and writes its status.

What AWS does not do for a while (a quota, throttling, no answer) is tried again, ever more seldom, and shown.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus, cause_of
from zerotune_operator.backends.driver import Step
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.local.runner import View
from zerotune_operator.backends.sagemaker.backend import SageMakerBackend
from zerotune_operator.backends.sagemaker.standalone import begun_again, driver_of, waits_to_start, was_begun_again
from zerotune_operator.lifecycle.attempts import next_attempt, under_way
from zerotune_operator.lifecycle.deadlines import pause
from zerotune_operator.lifecycle.job_events import new_warnings
from zerotune_operator.lifecycle.transitions import suspended, unobserved
from zerotune_trainer.errors import TemporaryError

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 300.0
_LEAVES = "ends as soon as AWS answers, and the job goes on there; Ctrl-C once more ends this command now"


class FollowingView(View, Protocol):
    """Shows a user how a job on SageMaker goes."""

    def show(self, text: str) -> None:
        """Show a line."""


class Follower:
    """Follows a job whose folder is locked.

    Args:
        job: The job.
        folder: Its folder: receives the status.
        backend: Runs its attempts.
        view: Shows them.
    """

    def __init__(self, job: Job, folder: JobFolder, backend: SageMakerBackend, view: FollowingView) -> None:
        self._folder, self._view = folder, view
        self._driver, self._backend = driver_of(job, backend), backend
        self._leave, self._asks = asyncio.Event(), False
        self._pause = _FIRST_PAUSE_SECONDS
        self._error, self._wait = "", ""
        self._error_noted = False
        """Whether the status that is written down has an error that passes, such as a quota, as its cause."""
        self._seen_at = folder.status_written_at()
        """When AWS answered last."""
        self._announced: int | None = None

    def leave(self) -> None:
        """What Ctrl-C does: end this process, once AWS has answered what it is asked; the job goes on."""
        if self._asks and not self.leaves:
            self._view.show(_LEAVES)
        self._leave.set()

    @property
    def leaves(self) -> bool:
        """Whether it was asked to leave."""
        return self._leave.is_set()

    async def follow(self, status: JobStatus) -> JobStatus:
        """Follow the job to its end, or until `leave`.

        Raises:
            ZerotuneError: the job cannot go on.
        """
        if status.attempts and not under_way(status):
            self._announced = status.attempts[-1].number
        self._announce(status)
        while not self.leaves and (under_way(status) or waits_to_start(status)):
            try:
                step = await self._step(status)
            except TemporaryError as error:
                self._folder.write_status(unobserved(status, cause_of(error), self._seen_at))
                self._error_noted = True
                await self._wait_after(error)
                continue
            self._pause, self._seen_at = _FIRST_PAUSE_SECONDS, datetime.now(UTC)
            self._take(step, status)
            status = await self._begun_again(step.status)
            await self._sleep(step.again or 0.0)
        return status

    async def _step(self, status: JobStatus) -> Step:
        self._asks = True
        try:
            may_be_held = waits_to_start(status) and (status.phase == "Restarting" or self._error_noted)
            if may_be_held and await self._backend.stops.holds(next_attempt(status)):
                return Step(suspended(status, datetime.now(UTC)), None)
            return await self._driver.step(status)
        finally:
            self._asks = False

    async def _begun_again(self, status: JobStatus) -> JobStatus:
        """The status of a job that has ended here, and that another machine has run again; else the same.

        Raises:
            ConfigurationError: it was run with another spec.
        """
        if under_way(status) or waits_to_start(status):
            return status
        with suppress(TemporaryError):  # The job has ended, as far as anybody knows.
            if await was_begun_again(status, self._backend):
                newest = f"attempt {status.attempts[-1].number}: {status.phase}" if status.attempts else status.phase
                self._view.show(f"{newest}; another machine has run the job again since")
                return begun_again(status)
        return status

    def _take(self, step: Step, before: JobStatus) -> None:
        status = step.status
        if status != before or self._error_noted:
            self._folder.write_status(status)
            self._error_noted = False
        if step.plan is not None:
            self._view.planned(step.plan, status.attempts[-1].number)
        self._announce(status)
        for text in new_warnings(before, status):
            self._view.warned(text)
        if step.seen is not None:
            self._view.observed(status, step.seen)
        self._show_wait(status)
        if status.phase == "Restarting" and status.root_cause is not None and _newly_ended(before, status):
            self._view.restarting(status.root_cause, pause(status, datetime.now(UTC)))

    def _announce(self, status: JobStatus) -> None:
        """Say once which training job is followed, was created, or has ended before anybody looked."""
        if not status.attempts or status.attempts[-1].number == self._announced:
            return
        self._announced = status.attempts[-1].number
        if under_way(status):
            self._view.show(self._backend.training_job_of(self._announced))
        else:
            self._view.show(f"{self._backend.training_job_name(self._announced)} has ended")

    def _show_wait(self, status: JobStatus) -> None:
        """Say what the attempt waits for, where that does not come by itself within minutes."""
        cause = status.root_cause if under_way(status) else None
        wait = (
            f"waits ({cause.failure_class}): {cause.message}" if cause is not None and cause.exit_code is None else ""
        )
        if wait and wait != self._wait:
            self._view.show(wait)
        self._wait = wait

    async def _wait_after(self, error: TemporaryError) -> None:
        if str(error) != self._error:
            self._error = str(error)
            self._view.show(f"{error}\n  tried again in {self._pause:.0f} s")
        await self._sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._leave.wait(), seconds)


def _newly_ended(before: JobStatus, status: JobStatus) -> bool:
    """Whether an attempt has ended that ran before, or that was not known then: it had ended when it was looked for."""
    if under_way(status) or not status.attempts:
        return False
    return under_way(before) or not before.attempts or before.attempts[-1].number < status.attempts[-1].number
