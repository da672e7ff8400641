"""One job on this machine, first attempt to last: plan > render > apply > observe > status, until it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import JobStatus, RootCause
from zerotune_operator.backends.local.backend import LocalBackend
from zerotune_operator.backends.local.pressure import Pressure, pressure
from zerotune_operator.backends.local.render import LocalAttempt
from zerotune_operator.backends.local.state import JobFolder
from zerotune_operator.lifecycle.deadlines import pause
from zerotune_operator.lifecycle.observation import Observation
from zerotune_operator.lifecycle.transitions import advance, next_attempt, planned, suspended
from zerotune_operator.plan import Plan

_POLL_SECONDS = 0.5


class View(Protocol):
    """Who watches."""

    def planned(self, plan: Plan, attempt: int) -> None:
        """An attempt is about to start."""

    def observed(self, status: JobStatus, seen: Observation) -> None:
        """The job was looked at."""

    def restarting(self, cause: RootCause, seconds: float) -> None:
        """An attempt failed, and another one follows."""

    def stopping(self) -> None:
        """A stop was asked for."""


class Runner:
    """Runs a job whose folder is locked."""

    def __init__(self, job: Job, folder: JobFolder, backend: LocalBackend, view: View) -> None:
        self._job = job
        self._folder = folder
        self._backend = backend
        self._view = view
        self._stop, self._kill = asyncio.Event(), asyncio.Event()
        self._told = Pressure.NONE

    def ask_to_stop(self) -> None:
        """What Ctrl-C does: the first asks for a stop after a checkpoint, the second kills."""
        (self._kill if self._stop.is_set() else self._stop).set()

    async def run(self, status: JobStatus, plan_attempt: Callable[[int], Plan]) -> JobStatus:
        """Run to the end. `plan_attempt` makes the plan of an attempt, with ports that are free then."""
        plan = plan_attempt(next_attempt(status))
        status = self._keep(planned(status, plan.summary(), datetime.now(UTC)))
        status = await self._attempt(status, plan)
        while status.phase == "Restarting":
            await self._pause(status)
            if self._stop.is_set():
                return self._keep(suspended(status, datetime.now(UTC)))
            status = await self._attempt(status, plan_attempt(next_attempt(status)))
        return status

    async def _attempt(self, status: JobStatus, plan: Plan) -> JobStatus:
        attempt = self._backend.render(plan)
        self._told = Pressure.NONE
        self._view.planned(plan, attempt.number)
        await self._backend.apply(attempt)
        while True:
            seen = await self._backend.observe(attempt)
            status = self._keep(advance(status, seen, self._policy(), datetime.now(UTC)))
            self._view.observed(status, seen)
            if all(node.state == "ended" for node in seen.nodes):
                return status
            await self._press(attempt, status, seen)
            await self._sleep()

    def _policy(self) -> RunPolicy:
        policy = self._job.spec.run_policy
        return policy.model_copy(update={"suspend": True}) if self._stop.is_set() else policy

    async def _press(self, attempt: LocalAttempt, status: JobStatus, seen: Observation) -> None:
        """Stop or kill what should no longer run."""
        due = pressure(status, seen, datetime.now(UTC))
        if self._kill.is_set() or due is Pressure.KILL:
            self._backend.kill()
        elif self._told is Pressure.NONE and (self._stop.is_set() or due is Pressure.STOP):
            if self._stop.is_set():
                self._view.stopping()
            self._told = Pressure.STOP
            await self._backend.stop(attempt)

    async def _pause(self, status: JobStatus) -> None:
        assert status.root_cause is not None
        seconds = pause(status, datetime.now(UTC))
        self._view.restarting(status.root_cause, seconds)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _sleep(self) -> None:
        """Until the next look, or until somebody asks for something."""
        awaited = self._kill if self._stop.is_set() else self._stop
        if awaited.is_set():
            await asyncio.sleep(_POLL_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(awaited.wait(), _POLL_SECONDS)

    def _keep(self, status: JobStatus) -> JobStatus:
        self._folder.write_status(status)
        return status
