"""The Kubernetes backend: an Indexed Job an attempt, observed through the watches and the launchers' `/progress`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.origins import origins, starting_from
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.kubernetes import pod_state
from zerotune_operator.backends.kubernetes.cache import Key
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.job_state import JobState
from zerotune_operator.backends.kubernetes.layout import host_names, place
from zerotune_operator.backends.kubernetes.model_probe import probe_model
from zerotune_operator.backends.kubernetes.model_source import find_model, find_records, has_changed
from zerotune_operator.backends.kubernetes.objects import CONFIG_DIGEST_ANNOTATION, attempt_name
from zerotune_operator.backends.kubernetes.observe import observe
from zerotune_operator.backends.kubernetes.owned import PATIENCE_SECONDS, OwnedObjects
from zerotune_operator.backends.kubernetes.render import Manifests, render
from zerotune_operator.backends.kubernetes.requirements import require_kubernetes
from zerotune_operator.backends.kubernetes.waiting import MISSING
from zerotune_operator.backends.off_loop import off_loop
from zerotune_operator.lifecycle.deadlines import seconds_since_end
from zerotune_operator.lifecycle.observation import AttemptRef, Observation
from zerotune_operator.lifecycle.pending import Awaited
from zerotune_operator.lifecycle.record import ATTEMPTS_KEPT
from zerotune_operator.plan import Plan, identity_of, plan_job
from zerotune_operator.plan.outputs import reading_output
from zerotune_trainer.config import Launch

_CLOSING_SECONDS = 60
"""How long a Job may take to notice that all of its pods have ended. After an outage of the API server, its controller
tries again only every 30 seconds, and a Job that is stopped before it has noticed loses pods that ended well."""
_RESTORE_SECONDS = 60
"""How often the objects that pods need are looked up, three requests a job: they are seldom deleted."""
_ENDING_SECONDS = 30
"""How long a Job that is about to end may take, when all of its launchers have ended."""


class KubernetesBackend:
    """Runs a job as pods: `zerotune_operator.backends.base.Backend`.

    Args:
        job: The job.
        cluster: Where.
    """

    def __init__(self, job: Job, cluster: Cluster) -> None:
        require_kubernetes(job)
        self._job, self._cluster, self._owned = job, cluster, OwnedObjects(job, cluster)
        self._key = Key(job.kind, job.metadata.namespace, job.metadata.name)
        self._known = cluster.cache.children(self._key)

    async def find_inputs(self, status: JobStatus) -> Inputs | Awaited:
        """The model and the outputs of other jobs, or what the job waits for: another job, or a pod that reads the
        model's shape.

        Raises:
            ConfigurationError, DataError, InputMissingError: there is no such input, and there will be none.
            TemporaryError: the API server does not answer.
        """
        source = await find_model(self._job, status, self._cluster.cache, self._cluster.hub)
        if isinstance(source, Awaited):
            return source
        since = status.attempts[-1].end_time if has_changed(status) else None
        with reading_output(self._job, source.uri):
            shape = source.shape or await probe_model(self._job, self._owned, self._cluster, source.uri, since)
        if isinstance(shape, Awaited):
            return shape
        records = find_records(self._job, status, self._cluster.cache)
        return records if isinstance(records, Awaited) else Inputs(source.uri, shape, records)

    def plan(self, inputs: Inputs, attempt: int) -> Plan:
        """The plan of an attempt.

        Raises:
            ConfigurationError: the job cannot run here.
        """
        job = starting_from(self._job, inputs.data_uris)
        layout, named = place(job, attempt, inputs.model_uri), origins(self._job)
        return plan_job(job, inputs.shape, layout, identity_of(job, attempt), origins=named)

    def render(self, plan: Plan) -> Manifests:
        """The objects of the attempt that `plan` is for."""
        return render(plan, self._job, self._cluster.installation)

    def attempt_ref(self, attempt: int, config_digest: str, hosts: Sequence[str] = ()) -> AttemptRef:
        """An attempt that was started before, as the status and its Job record it: an operator of another version would
        plan it, and name its objects, otherwise; and the Job may be deleted, the spec be another by now.
        """
        made = self._owned.job_of("trainer", attempt)
        recorded = made["metadata"].get("annotations", {}).get(CONFIG_DIGEST_ANNOTATION) if made else None
        return AttemptRef(
            number=attempt,
            hosts=tuple(hosts) or host_names(made, self._job, attempt),
            job_uid=self._job.metadata.uid,
            config_digest=recorded or config_digest,
            progress_port=Launch.model_fields["progress_port"].default,
            output_uri=self._job.spec.output.uri or "",
        )

    async def has_started(self, attempt: int) -> bool:
        """Whether there is a Job of an attempt, which may be terminating."""
        return self._owned.job_of("trainer", attempt) is not None

    async def apply(self, manifests: Manifests) -> None:
        """Make the objects be; a Job that is there stays as it is.

        Raises:
            ConfigurationError: the API server rejects them.
            TemporaryError: it does not answer, or an object of such a name is there, and is not this job's.
        """
        *_, config_map = await asyncio.gather(*(self._owned.share(wanted) for wanted in manifests.shared))
        await self._owned.make_secret(manifests.secret, config_map)
        await self._owned.make(manifests.job)
        self._known.restored_at = self._cluster.clock()

    async def observe(self, attempt: AttemptRef) -> Observation:
        """What the pods of an attempt do.

        Raises:
            TemporaryError: the API server does not answer.
        """
        view = self._owned.view("trainer", attempt.number)
        nodes = len(attempt.hosts) // attempt.replicas if attempt.replicas > 1 else None
        now = self._cluster.clock()
        known = self._cluster.launchers.known(self._key, view.pods, attempt.progress_port, now, nodes)
        view = replace(view, progress=known)
        seen = observe(attempt, view)
        waiting = [node for node in seen.nodes if node.state == "waiting"]
        if seen.queued or not waiting:
            return seen
        events = await self._owned.events(view, lacks_pods=any(node.pod is None for node in waiting))
        return observe(attempt, replace(view, events=events)) if events else seen

    async def stop(self, attempt: AttemptRef) -> None:
        """Have the pods of an attempt that still run save and end; the messages of the others stay to be read.

        Raises:
            TemporaryError: the API server does not answer.
        """
        found = self._owned.job_of("trainer", attempt.number)
        state = JobState(found)
        if found is None or state.is_closed:
            return
        if state.is_suspended:
            await self._cluster.client.delete(found)  # It has no pods but those that end, and may be let go on.
        elif not state.has_deadline:
            # A Job that is over. A suspended one would be started again by its queue, a deleted one takes its pods'
            # termination messages along.
            await self._cluster.client.merge(found, {"spec": {"activeDeadlineSeconds": 1}})

    async def close(self, attempt: AttemptRef, seen: Observation) -> None:
        """See that an attempt whose nodes have all ended gets no pods any more: its Job is about to end by itself, is
        given a deadline, or is deleted.

        A Job waits for all of its pods to be deleted before it ends: also for one whose machine is lost, and will never
        report it, and for one in which a container other than the launcher's goes on.

        Raises:
            TemporaryError: the API server does not answer.
        """
        found, now = self._owned.job_of("trainer", attempt.number), self._cluster.clock()
        state = JobState(found)
        if found is None or state.is_closed:
            return
        mine = self._owned.view("trainer", attempt.number).pods
        lost = any(pod_state.is_lost(pod) for pod in mine)
        if lost or state.is_suspended or state.seconds_ending(now) >= _ENDING_SECONDS:
            await self._cluster.client.delete(found)
        elif any(pod_state.lingers(pod) for pod in mine) or seconds_since_end(seen, now) >= _CLOSING_SECONDS:
            await self.stop(attempt)

    async def restore(self, attempt: AttemptRef, seen: Observation, plan: Callable[[], Plan]) -> None:
        """Make what the pods of an attempt need, and somebody has deleted, again: Service, NetworkPolicy,
        ConfigMap; and its Secret where a pod waits for something: whether that is there cannot be asked. A Service
        or NetworkPolicy that somebody has edited becomes what it was.

        They are looked up every few seconds while a pod waits for an object that is missing, else once a minute.

        Args:
            attempt: The attempt.
            seen: What its nodes do.
            plan: Makes its plan again.

        Raises:
            TemporaryError: the API server does not answer.
        """
        made, now = self._owned.job_of("trainer", attempt.number), self._cluster.clock()
        lacks = any(node.failure is not None and node.failure.failure_class == MISSING for node in seen.nodes)
        due = PATIENCE_SECONDS if lacks else _RESTORE_SECONDS
        if made is None or (self._known.restored_at and (now - self._known.restored_at).total_seconds() < due):
            return
        self._known.restored_at = now
        if made["metadata"]["name"] != attempt_name(self._job, attempt.number):
            return  # An operator of an earlier version named the objects of this attempt.
        manifests = await off_loop(lambda: self.render(plan()))
        for wanted in manifests.shared:
            found = await self._owned.restore(wanted)
            if lacks and wanted["kind"] == "ConfigMap":
                await self._owned.make_secret(manifests.secret, found)

    async def clean_up(self, newest: int) -> None:
        """Delete the Job, the ConfigMap and the Secret of the attempt that the status no longer lists.

        Args:
            newest: Number of the newest attempt.

        Raises:
            TemporaryError: the API server does not answer.
        """
        forgotten = self._owned.job_of("trainer", newest - ATTEMPTS_KEPT)
        if forgotten is not None and "deletionTimestamp" not in forgotten["metadata"]:
            await self._owned.delete_config_map(forgotten["metadata"]["name"])
            await self._cluster.client.delete(forgotten)

    async def finalize(self, _: JobStatus) -> None:
        """Do nothing: the garbage collector of Kubernetes deletes what the job owns."""
