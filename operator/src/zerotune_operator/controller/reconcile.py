"""One line for both kinds: resource > plan > render > apply > observe > status > one status patch.

Level-based: every turn begins with what the watches know and the status that is stored, whatever woke it, and a turn
that was cut off is made up for by the next.
"""

from __future__ import annotations

import logging
from datetime import datetime

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import read_job
from zerotune_operator.api.status import JobStatus, cause_of
from zerotune_operator.backends.kubernetes.api_errors import ConflictError, MissingError
from zerotune_operator.backends.kubernetes.backend import KubernetesBackend
from zerotune_operator.backends.kubernetes.cache import Key
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.controller.model_source import Hub, find_model, has_changed
from zerotune_operator.controller.slots import Slots
from zerotune_operator.controller.status_writer import publish, read_status
from zerotune_operator.lifecycle.deadlines import deadline_in, expires_in, pause, stragglers
from zerotune_operator.lifecycle.observation import AttemptRef, Observation
from zerotune_operator.lifecycle.pending import Awaited, pending
from zerotune_operator.lifecycle.transitions import (
    ACTIVE,
    FINAL,
    advance,
    current_attempt,
    next_attempt,
    planned,
    refused,
    suspended,
    under_way,
)
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError, TemporaryError
from zerotune_trainer.sizing.shape import ModelShape

_logger = logging.getLogger(__name__)

_REFUSALS = (ConfigurationError, DataError, InputMissingError)


class Reconciler:
    """Brings every resource a step further.

    Args:
        cluster: What all of them share.
        interval: Seconds between two looks at a job that runs.
        slots: Those that its turns take.
    """

    def __init__(self, cluster: Cluster, interval: float, slots: Slots) -> None:
        self._cluster, self._interval, self._slots, self._hub = cluster, interval, slots, Hub()

    async def reconcile(self, key: Key) -> float | None:
        """One turn of a resource; answers in how many seconds the next is due at the latest.

        Raises:
            ZerotuneError: the turn could not be made, and is to be made again.
        """
        resource = self._cluster.store.resource(key)
        if resource is None:
            self._cluster.store.drop_resource(key)  # Its pods were heard of once more, on their way out.
            return None
        if "deletionTimestamp" in resource["metadata"]:
            return None  # What it owns goes with it.
        before = read_status(resource)
        status, again = await self._outcome(resource, before)
        told = status is None or await self._published(key, resource, before, status)
        return again if told else None

    async def _outcome(self, resource: Object, before: JobStatus) -> tuple[JobStatus | None, float | None]:
        """As `_step`, with the errors that the status tells of: those of a job of which nothing runs."""
        try:
            return await self._step(read_job(resource), before)
        except _REFUSALS as error:
            if under_way(before):
                raise  # It was accepted once, by an operator of another version, and its pods run on.
            if before.phase in FINAL:
                return None, None
            return refused(before, cause_of(error), self._cluster.clock()), 0.0
        except TemporaryError as error:
            if under_way(before) or before.phase in FINAL:
                raise
            cause = cause_of(error)
            waits = pending(before, cause.failure_class, cause.message, cause, self._cluster.clock())
            return waits, self._interval

    async def _step(self, job: Job, status: JobStatus) -> tuple[JobStatus | None, float | None]:
        """The status after a turn, and when the next is due; no status where it is told in another turn."""
        policy, now = job.spec.run_policy, self._cluster.clock()
        backend = KubernetesBackend(job, self._cluster)
        if under_way(status):
            return await self._watch(job, status, backend)
        if status.attempts:
            await backend.clear_away(status.attempts[-1].number)
        if status.phase in FINAL:
            return status, await self._expire(job, status, now)
        age = backend.age_seconds(next_attempt(status))
        if age is None:  # Else it has begun, and that has yet to be told.
            if policy.suspend:
                return suspended(status, now), None
            if (wait := pause(status, now)) > 0:
                return status, wait
        elif not policy.suspend and age < self._interval:
            return None, self._interval - age  # How its pods fare is told along with it.
        return await self._begin(job, status, backend)

    async def _begin(
        self, job: Job, status: JobStatus, backend: KubernetesBackend
    ) -> tuple[JobStatus | None, float | None]:
        """Start the next attempt, unless the model is not there yet."""
        source = await self._model(job, status, backend)
        if isinstance(source, Awaited):
            return pending(status, source.reason, source.message, source.cause, self._cluster.clock()), self._interval
        uri, shape = source
        attempt = next_attempt(status)
        plan = backend.plan(shape, attempt, uri)
        if backend.age_seconds(attempt) is None:
            await backend.apply(backend.render(plan))
            if self._slots.crowded:
                return None, self._interval  # That it has begun is told at its next look: others are to begin first.
        summary = plan.summary()
        status = status.model_copy(update={"model": shape, "model_uri": uri, "plan": summary})
        if status.phase not in ACTIVE:
            status = planned(status, summary, self._cluster.clock())
        return await self._watch(job, status, backend)

    async def _model(self, job: Job, status: JobStatus, backend: KubernetesBackend) -> tuple[str, ModelShape] | Awaited:
        source = await find_model(job, status, self._cluster.store, self._hub)
        if isinstance(source, Awaited):
            return source
        since = status.attempts[-1].end_time if has_changed(status) else None
        shape = source.shape or await backend.inspect(source.uri, since)
        return shape if isinstance(shape, Awaited) else (source.uri, shape)

    async def _watch(self, job: Job, status: JobStatus, backend: KubernetesBackend) -> tuple[JobStatus, float | None]:
        """Look at the attempt that runs, and stop what should not run any more."""
        policy, now = job.spec.run_policy, self._cluster.clock()
        number, digest = current_attempt(status), status.plan.config_digest if status.plan else None
        attempt = backend.attempt_ref(number, digest or "")
        seen = await backend.observe(attempt)
        before, status = status, advance(status, seen, policy, now)
        if not under_way(status):
            return status, 0.0
        if seen.all_ended:
            if _failure_class(before) != _failure_class(status):
                return status, 0.0  # The reason is written first: the pods that give it go with their Job.
            await backend.close(attempt, seen)
        elif policy.suspend or status.phase in FINAL or stragglers(seen, now):
            await backend.stop(attempt)
        else:
            await self._restore(status, seen, attempt, backend)
        due = deadline_in(status, policy, now)
        return status, self._interval if due is None else min(self._interval, due)

    async def _restore(
        self, status: JobStatus, seen: Observation, attempt: AttemptRef, backend: KubernetesBackend
    ) -> None:
        """Make what the pods of an attempt need again, where somebody has deleted it."""
        shape, uri = status.model, status.model_uri
        if shape is None or uri is None:
            return  # It was started by an earlier version.
        try:
            await backend.restore(attempt, seen, lambda: backend.plan(shape, attempt.number, uri))
        except _REFUSALS as error:  # Of an operator of another version than the one that accepted the job.
            _logger.warning("what the pods of attempt %d need is not looked after: %s", attempt.number, error)

    async def _expire(self, job: Job, status: JobStatus, now: datetime) -> float | None:
        """Delete a finished resource whose time is over; else when it will be."""
        left = expires_in(status, job.spec.run_policy, now)
        if left != 0:
            return left
        resource = self._cluster.store.resource(Key(job.kind, job.metadata.namespace, job.metadata.name))
        if resource is not None:
            await self._cluster.client.delete(resource)
        return None

    async def _published(self, key: Key, resource: Object, before: JobStatus, status: JobStatus) -> bool:
        """Tell the status; whether that is what the resource says now, and not of another version or gone."""
        store = self._cluster.store
        try:
            newer = await publish(self._cluster.client, resource, before, status, self._cluster.clock())
        except ConflictError:
            return False  # It has changed, or another of its name has come: that has its own event, and a turn.
        except MissingError:
            if store.resource(key) is resource:  # Its end was missed by the watch.
                store.drop_resource(key)
            return False
        store.keep_resource(key, newer)
        return True


def _failure_class(status: JobStatus) -> str | None:
    """Why the newest attempt fails, as far as that is known."""
    return status.attempts[-1].failure_class if status.attempts else None
