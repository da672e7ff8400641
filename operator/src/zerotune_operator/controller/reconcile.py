"""Reconciles a FineTuneJob or InferenceJob: reads it, has the driver make a step, and hands the status to its writer.

Level-based: a reconcile begins with what the watches know and the status that is stored, whatever woke it. Which
attempt runs is derived from the Jobs that are observed: the status may not record it yet.
"""

from __future__ import annotations

from collections.abc import Callable

from zerotune_operator.api.status import JobStatus, cause_of
from zerotune_operator.backends.driver import REJECTIONS, Driver, Step
from zerotune_operator.backends.kubernetes.cache import Key
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.reports import text
from zerotune_operator.controller.accepted import AcceptedJobs
from zerotune_operator.controller.finalizers import Finalizers
from zerotune_operator.controller.status_writer import StatusWriter, observed, read_status, write_event
from zerotune_operator.lifecycle.attempts import FINAL, under_way
from zerotune_operator.lifecycle.deadlines import ends_by_clock, expires_in
from zerotune_operator.lifecycle.job_events import EventText, changed_after_end
from zerotune_operator.lifecycle.pending import pending
from zerotune_operator.lifecycle.transitions import rejected
from zerotune_trainer.errors import InternalError, TemporaryError, ZerotuneError

_BUG = "this is a bug of zerotune, whose log has the traceback; the operator tries again, once a minute in the end"


class Reconciler:
    """Reconciles the resources of a cluster.

    Args:
        cluster: What all of them share.
        interval: Seconds between two observations of a job that runs.
        count_rejection: Gets the kind and the failure class of a job that is rejected.
    """

    def __init__(
        self, cluster: Cluster, interval: float, count_rejection: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        self._cluster, self._interval, self._count_rejection = cluster, interval, count_rejection
        self._writer = StatusWriter(cluster.client, cluster.cache, interval)
        self._finalizers, self._jobs = Finalizers(cluster), AcceptedJobs(cluster)

    async def reconcile(self, key: Key) -> float | None:
        """Bring a resource one step further; answers in how many seconds the next step is due at the latest.

        Raises:
            ZerotuneError: the step could not be made, and is to be made again.
        """
        resource = self._cluster.cache.resource(key)
        if resource is None:
            self._cluster.cache.delete_resource(key)  # An event of one of its pods came after its own last one.
            self._writer.forget(key)
            self._jobs.forget(key)
            return None
        if "deletionTimestamp" in resource["metadata"]:
            await self._finalizers.finalize(resource)
            return None
        if (wait := self._writer.deferred_seconds(key, resource)) > 0:
            return wait  # A status that is not written yet need not be made either.
        before = read_status(resource)
        try:
            step = await self._step(key, resource, before)
        except ZerotuneError:
            raise
        except Exception as error:
            await self._report(key, resource, before, error)
            raise
        if (wait := self._writer.defer(key, resource, before, step.status)) > 0:
            return wait
        written = await self._writer.write(key, resource, before, step.status, self._cluster.clock())
        return step.again if written else None

    async def _step(self, key: Key, resource: Object, before: JobStatus) -> Step:
        """A step of the driver. What is wrong with a job of which nothing runs goes into its status."""
        try:
            step = await self._drive(key, resource, before)
        except REJECTIONS as error:
            if under_way(before):
                raise  # It was accepted once, by an operator of another version, and its pods run on.
            if before.phase in FINAL:
                return Step(before, None)  # This generation of its spec is not observed: nobody could read it.
            self._count_rejection(resource["kind"], error.failure_class)
            step = Step(rejected(before, cause_of(error), self._cluster.clock()), 0.0)
        except TemporaryError as error:
            if under_way(before) or before.phase in FINAL:
                raise
            cause = cause_of(error)
            waiting = pending(before, cause.failure_class, cause.message, cause, self._cluster.clock())
            step = Step(waiting, self._interval)
        return step._replace(status=observed(step.status, resource["metadata"].get("generation")))

    async def _report(self, key: Key, resource: Object, before: JobStatus, error: Exception) -> None:
        """Have the job say that a reconcile raised what none should: its author does not read the operator's log."""
        raised = f"{type(error).__name__}: {text(str(error))}"
        bug = cause_of(InternalError(f"the operator cannot reconcile the job: {raised}", _BUG))
        now = self._cluster.clock()
        if under_way(before) or before.phase in FINAL:
            warning = EventText("Warning", bug.failure_class, f"{bug.message}; {bug.hint}")
            await write_event(self._cluster.client, resource, warning, now)
        else:
            status = pending(before, bug.failure_class, bug.message, bug, now)
            await self._writer.write(key, resource, before, status, now)

    async def _report_late_change(self, resource: Object, status: JobStatus) -> None:
        """Say that a change of the spec of a job that is over does nothing, where it was changed since."""
        generation, seen = resource["metadata"].get("generation"), status.observed_generation
        if seen is not None and generation is not None and generation > seen:
            await write_event(self._cluster.client, resource, changed_after_end(status), self._cluster.clock())

    async def _drive(self, key: Key, resource: Object, before: JobStatus) -> Step:
        accepted = await self._jobs.read(key, resource)
        policy = accepted.job.spec.run_policy
        if ends_by_clock(before, policy, self._cluster.clock()):
            await self._cluster.confirm_time()
        if before.phase in FINAL:
            self._jobs.forget(key)  # Those that are over are many.
            await self._report_late_change(resource, before)
            await self._finalizers.release(resource)
        elif await self._finalizers.add(resource, accepted.job):
            return Step(before, self._interval)  # The watch reports the resource with it.
        step = await Driver(accepted.job, accepted.backend, self._interval, self._cluster.clock).step(before)
        if step.again is not None or step.status.phase not in FINAL:
            return step
        left = expires_in(step.status, policy, self._cluster.clock())
        if left != 0:
            return step._replace(again=left)
        await self._cluster.client.delete(resource)
        return step
