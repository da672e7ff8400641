"""One step of a job, whatever runs it: inputs > plan > apply > observe > status.

The operator and `zerotune run` drive jobs with the same steps. They differ in what wakes them (watches and a queue; a
poll and Ctrl-C) and in where they write the status that a step answers (the API server; `status.json`).

A step is level-based: it begins with the status that was written and with what the backend observes, whatever woke it.
One that is cut off is made up for by the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Generic, NamedTuple

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.base import Backend, Inputs, RenderedT
from zerotune_operator.backends.off_loop import off_loop
from zerotune_operator.lifecycle.attempts import ACTIVE, FINAL, current_attempt, next_attempt, under_way
from zerotune_operator.lifecycle.deadlines import deadline_in, pause, stragglers
from zerotune_operator.lifecycle.observation import AttemptRef, Observation
from zerotune_operator.lifecycle.pending import Awaited, pending
from zerotune_operator.lifecycle.transitions import advance, planned, suspended
from zerotune_operator.plan import Plan
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError

REJECTIONS = (ConfigurationError, DataError, InputMissingError)
"""Errors that a job ends with: nothing changes when it is tried again."""

_logger = logging.getLogger(__name__)


class Step(NamedTuple):
    """What a step of a job results in."""

    status: JobStatus
    again: float | None
    """Seconds until the next step at the latest. None: it is due when the job or what it waits for changes."""
    plan: Plan | None = None
    """Of the attempt that the step started."""
    seen: Observation | None = None
    """The attempt that runs, where the step observed it."""


class Driver(Generic[RenderedT]):
    """Takes a job from its first attempt to its end, step by step.

    Args:
        job: The job, as its spec is at this moment.
        backend: What runs it.
        interval: Seconds between two observations of a job that runs.
        clock: The time.
    """

    def __init__(self, job: Job, backend: Backend[RenderedT], interval: float, clock: Callable[[], datetime]) -> None:
        self._policy, self._backend, self._interval, self._clock = job.spec.run_policy, backend, interval, clock

    async def step(self, status: JobStatus) -> Step:
        """Bring the job one step further.

        Args:
            status: The status that was written last.

        Raises:
            ConfigurationError, DataError, InputMissingError: the job cannot run.
            TemporaryError: the step could not be made, and may be made again.
        """
        if under_way(status):
            return await self._watch(status)
        if status.attempts:
            await self._backend.clean_up(status.attempts[-1].number)
        if status.phase in FINAL:
            return Step(status, None)
        attempt = next_attempt(status)
        if not await self._backend.has_started(attempt):  # Else it has begun, and the status does not record it yet.
            if self._policy.suspend:
                return Step(suspended(status, self._clock()), None)
            if (wait := pause(status, self._clock())) > 0:
                return Step(status, wait)
        return await self._begin(status, attempt)

    async def _begin(self, status: JobStatus, attempt: int) -> Step:
        """Start an attempt, unless its inputs are not there yet or the attempt has started."""
        inputs = await self._backend.find_inputs(status)
        if isinstance(inputs, Awaited):
            waiting = pending(status, inputs.reason, inputs.message, inputs.cause, self._clock())
            return Step(waiting, self._interval)
        has_started = await self._backend.has_started(attempt)
        plan, rendered = await off_loop(self._plan, inputs, attempt, render=not has_started)
        if rendered is not None:
            await self._backend.apply(rendered)
        summary = plan.summary()
        started = {"model": inputs.shape, "model_uri": inputs.model_uri, "data_uris": inputs.data_uris}
        status = status.model_copy(update={**started, "plan": summary})
        if status.phase not in ACTIVE:
            status = planned(status, summary, self._clock())
        return (await self._watch(status))._replace(plan=plan)

    def _plan(self, inputs: Inputs, attempt: int, *, render: bool) -> tuple[Plan, RenderedT | None]:
        plan = self._backend.plan(inputs, attempt)
        return plan, self._backend.render(plan) if render else None

    async def _watch(self, status: JobStatus) -> Step:
        """Observe the attempt that runs, and stop what should not run any more."""
        now, digest = self._clock(), status.plan.config_digest if status.plan else None
        hosts = status.attempts[-1].hosts if under_way(status) else ()
        attempt = self._backend.attempt_ref(current_attempt(status), digest or "", hosts)
        attempt = replace(attempt, replicas=status.plan.replicas if status.plan else 1)
        seen = await self._backend.observe(attempt)
        before, status = status, advance(status, seen, self._policy, now)
        if not under_way(status):
            return Step(status, 0.0, seen=seen)
        if seen.all_ended:
            if _failure_class(before) != _failure_class(status):
                return Step(status, 0.0, seen=seen)  # The reason is written first: closing may delete what gives it.
            await self._backend.close(attempt, seen)
        elif self._policy.suspend or status.phase in FINAL or stragglers(seen, now):
            await self._backend.stop(attempt)
        else:
            await self._restore(status, seen, attempt)
        due = deadline_in(status, self._policy, now)
        return Step(status, self._interval if due is None else min(self._interval, due), seen=seen)

    async def _restore(self, status: JobStatus, seen: Observation, attempt: AttemptRef) -> None:
        """Make what the nodes of an attempt need again, where somebody has deleted it."""
        shape, uri = status.model, status.model_uri
        if shape is None or uri is None:
            return  # It was started by an earlier version.
        inputs = Inputs(uri, shape, status.data_uris)
        try:
            await self._backend.restore(attempt, seen, lambda: self._backend.plan(inputs, attempt.number))
        except REJECTIONS as error:  # Of an operator of another version than the one that accepted the job.
            _logger.warning("what the nodes of attempt %d need is not restored: %s", attempt.number, error)


def _failure_class(status: JobStatus) -> str | None:
    """Why the newest attempt fails, as far as that is known."""
    return status.attempts[-1].failure_class if status.attempts else None
