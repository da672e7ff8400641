"""The Kubernetes backend: an Indexed Job an attempt, seen through the watches and the launchers' `/progress`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import RootCause
from zerotune_operator.backends.base import AttemptRef, Observation
from zerotune_operator.backends.kubernetes import pods
from zerotune_operator.backends.kubernetes.api_errors import ConflictError
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.events import WarningEvents
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.jobstate import JobState, trim_job
from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_operator.backends.kubernetes.objects import (
    ATTEMPT_LABEL,
    COMPONENT_LABEL,
    CONFIG_DIGEST_ANNOTATION,
    Component,
    Object,
    attempt_name,
    given,
    selector,
)
from zerotune_operator.backends.kubernetes.observe import ClusterView, observe, shape_of_inspection
from zerotune_operator.backends.kubernetes.placement import host_names, place
from zerotune_operator.backends.kubernetes.render import Manifests, render, render_inspection
from zerotune_operator.backends.kubernetes.support import require_kubernetes
from zerotune_operator.backends.kubernetes.waiting import MISSING
from zerotune_operator.deadlines import seconds_since_end
from zerotune_operator.models import Awaited
from zerotune_operator.plan import Plan, plan_job
from zerotune_operator.record import ATTEMPTS_KEPT
from zerotune_operator.store import Key, Store
from zerotune_trainer.config import JobIdentity, Launch
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError, TemporaryError
from zerotune_trainer.progress import NodeProgress
from zerotune_trainer.sizing.shape import ModelShape

_PATIENCE_SECONDS = 10
"""What waits for no longer than this may well be on its way."""
_STUCK_SECONDS = 60
_SETTLE_SECONDS = 10
"""How long a Job may take to notice that all of its pods have ended."""
_RESTORE_SECONDS = 60
"""How often it is looked whether what pods need is there, three requests a job: they are seldom deleted."""
_ENDING_SECONDS = 30
"""How long a Job that is about to end may take, when all of its launchers have ended."""
_logger = logging.getLogger(__name__)

_NO_MODEL = {error.exit_code: error for error in (ConfigurationError, DataError, InputMissingError)}
"""What an inspection ends with that another one would end with, too."""


@dataclass(frozen=True)
class Cluster:
    """What all jobs of a cluster share."""

    store: Store
    """What the watches know."""
    client: ClusterClient
    warnings: WarningEvents
    launchers: Launchers
    """The line to the pods."""
    installation: Installation
    clock: Callable[[], datetime]


class KubernetesBackend:
    """Runs a job as pods: `zerotune_operator.backends.base.Backend`.

    Args:
        job: The job.
        cluster: Where.
    """

    def __init__(self, job: Job, cluster: Cluster) -> None:
        require_kubernetes(job)
        self._job, self._cluster = job, cluster
        self._known = cluster.store.children(Key(job.kind, job.metadata.namespace, job.metadata.name))

    def plan(self, shape: ModelShape, attempt: int, model_uri: str) -> Plan:
        """The plan of an attempt.

        Raises:
            ConfigurationError: the job cannot be carried out.
        """
        job, metadata = self._job, self._job.metadata
        identity = JobIdentity(kind=job.kind, name=metadata.name, uid=metadata.uid, attempt=attempt)
        return plan_job(job, shape, place(job, attempt, model_uri), identity)

    def render(self, plan: Plan) -> Manifests:
        """The objects of the attempt that `plan` is for."""
        return render(plan, self._job, self._cluster.installation)

    def attempt_ref(self, attempt: int, config_digest: str) -> AttemptRef:
        """An attempt that was started before, as its Job says of itself: an operator of another version would plan it,
        and name its objects, otherwise.
        """
        made = self._job_of("trainer", attempt)
        said = made["metadata"].get("annotations", {}).get(CONFIG_DIGEST_ANNOTATION) if made else None
        return AttemptRef(
            number=attempt,
            hosts=host_names(made, self._job, attempt),
            job_uid=self._job.metadata.uid,
            config_digest=said or config_digest,
            progress_port=Launch.model_fields["progress_port"].default,
        )

    def age_seconds(self, attempt: int) -> float | None:
        """For how long there has been a Job of an attempt, be it on its way out; None where there is none."""
        job = self._job_of("trainer", attempt)
        return None if job is None else _age_seconds(job, self._cluster.clock())

    async def apply(self, manifests: Manifests) -> None:
        """Make the objects be; a Job that is there stays as it is.

        Raises:
            ConfigurationError: the API server refuses them.
            TemporaryError: it does not answer, or an object of such a name is there, and is not this job's.
        """
        await asyncio.gather(*(self._share(wanted) for wanted in manifests.shared))
        await self._make(manifests.job)
        self._known.restored_at = self._cluster.clock()

    async def observe(self, attempt: AttemptRef) -> Observation:
        """What the pods of an attempt do.

        Raises:
            TemporaryError: the API server does not answer.
        """
        view = self._view("trainer", attempt.number)
        view = replace(view, progress=await self._progress(view.pods, attempt.progress_port))
        seen = observe(attempt, view)
        waiting = [node for node in seen.nodes if node.state == "waiting"]
        if seen.queued or not waiting:
            return seen
        events = await self._events(view, lacks_pods=any(node.pod is None for node in waiting))
        return observe(attempt, replace(view, events=events)) if events else seen

    async def stop(self, attempt: AttemptRef) -> None:
        """Have the pods of an attempt that still run save and end; what the others said stays to be read.

        Raises:
            TemporaryError: the API server does not answer.
        """
        found = self._job_of("trainer", attempt.number)
        state = JobState(found)
        if found is None or state.is_closed:
            return
        if state.is_suspended:
            await self._cluster.client.delete(found)  # It has no pods but those that end, and may be let go on.
        elif not state.is_told_to_end:
            # A Job that is over. A suspended one would be started again by its queue, a deleted one takes its pods'
            # termination messages along.
            await self._cluster.client.merge(found, {"spec": {"activeDeadlineSeconds": 1}})

    async def close(self, attempt: AttemptRef, seen: Observation) -> None:
        """See that an attempt whose nodes have all ended gets no pods any more: its Job is about to end by itself, is
        told to, or is deleted.

        A Job waits for all of its pods to be gone before it ends: also for one whose machine is away, and will never
        say so, and for one in which a container other than the launcher's goes on.

        Raises:
            TemporaryError: the API server does not answer.
        """
        found, now = self._job_of("trainer", attempt.number), self._cluster.clock()
        state = JobState(found)
        if found is None or state.is_closed:
            return
        mine = self._view("trainer", attempt.number).pods
        lost = any(pods.is_lost(pod) for pod in mine)
        if lost or state.is_suspended or state.seconds_ending(now) >= _ENDING_SECONDS:
            await self._cluster.client.delete(found)
        elif any(pods.lingers(pod) for pod in mine) or seconds_since_end(seen, now) >= _SETTLE_SECONDS:
            await self.stop(attempt)

    async def restore(self, attempt: AttemptRef, seen: Observation, plan: Callable[[], Plan]) -> None:
        """Make what the pods of an attempt need, and somebody has deleted, again: Service, NetworkPolicy, ConfigMap.

        It is looked for every few seconds while a pod waits for an object that is missing, else once a minute.

        Args:
            attempt: The attempt.
            seen: What its nodes do.
            plan: Makes its plan again.

        Raises:
            TemporaryError: the API server does not answer.
        """
        made, now = self._job_of("trainer", attempt.number), self._cluster.clock()
        lacks = any(node.failure is not None and node.failure.failure_class == MISSING for node in seen.nodes)
        due = _PATIENCE_SECONDS if lacks else _RESTORE_SECONDS
        if made is None or (self._known.restored_at and (now - self._known.restored_at).total_seconds() < due):
            return
        self._known.restored_at = now
        if made["metadata"]["name"] != attempt_name(self._job, attempt.number):
            return  # An operator of an earlier version named the objects of this attempt.
        client = self._cluster.client
        shared = self.render(plan()).shared
        for wanted in shared:
            if await client.read_metadata(wanted) is None:
                _logger.warning("%s %s was deleted, and is made again", wanted["kind"], wanted["metadata"]["name"])
                await self._share(wanted)

    async def clear_away(self, attempt: int) -> None:
        """Delete the Job of the attempt that is beyond memory.

        Args:
            attempt: Number of the newest attempt.

        Raises:
            TemporaryError: the API server does not answer.
        """
        forgotten = self._job_of("trainer", attempt - ATTEMPTS_KEPT)
        if forgotten is not None and "deletionTimestamp" not in forgotten["metadata"]:
            await self._cluster.client.delete(forgotten)

    async def inspect(self, model_uri: str, since: datetime | None) -> ModelShape | Awaited:
        """The shape of a model that only pods can reach, or what the Job that reads it waits for, or failed of: then
        another one is made at the next look.

        Args:
            model_uri: The model.
            since: What was read before this time is no longer true.

        Raises:
            ConfigurationError, DataError, InputMissingError: there is no such model.
        """
        known = self._job_of("inspection")
        if known is not None and since is not None and _created(known) < since:
            await self._cluster.client.delete(known)
            return Awaited("ModelInspection", f"{model_uri} has changed and is looked at again")
        if known is None:
            await self._make(render_inspection(self._job, model_uri, self._cluster.installation))
        view = self._view("inspection")
        found = shape_of_inspection(view)
        if found is None and (events := await self._events(view, lacks_pods=not view.pods)):
            found = shape_of_inspection(replace(view, events=events))
        if isinstance(found, ModelShape):
            return found
        if isinstance(found, RootCause) and found.exit_code is not None:
            if view.job is not None:
                await self._cluster.client.delete(view.job)
            if found.exit_code in _NO_MODEL:
                raise _NO_MODEL[found.exit_code](found.message, found.hint)
        return Awaited("ModelInspection", f"a pod reads the shape of {model_uri}", found)

    async def _make(self, wanted: Object) -> None:
        """Create a Job, or find it as it is where it was created before: its template cannot change, and where a queue
        admitted it, `suspend` is the queue's.
        """
        try:
            made = await self._cluster.client.create(wanted, strict=True)
        except ConflictError:
            made = await self._cluster.client.read(wanted)
        _require_owner(made, wanted)
        self._known.keep_job(wanted["metadata"]["name"], trim_job(made))

    async def _share(self, wanted: Object) -> None:
        """Create an object that pods share, or bring it up to date; one of its name that is another's is left alone."""
        client = self._cluster.client
        try:
            await client.create(wanted)
        except ConflictError as error:
            made = await client.read_metadata(wanted)
            if made is None:
                raise TemporaryError(error.message, "it goes at this moment, and is made again") from error
            _require_owner(made, wanted)
            if not wanted.get("immutable"):
                await client.apply(wanted)

    def _job_of(self, component: Component, attempt: int | None = None) -> Object | None:
        """The Job of an attempt, or that looks at the model, by its labels: names are made otherwise in other versions.
        None where it is that of a resource that had this one's name before.
        """
        wanted = self._labels(component, attempt)
        made = (job for job in self._known.jobs.values() if wanted.items() <= job["metadata"].get("labels", {}).items())
        return next((job for job in made if self._job.metadata.uid in _owners(job)), None)

    def _view(self, component: Component, attempt: int | None = None) -> ClusterView:
        """What is known of it and its pods: where the Job is there, those that it made; else all that there are."""
        job, wanted = self._job_of(component, attempt), self._labels(component, attempt)
        every = [
            pod for pod in self._known.pods.values() if wanted.items() <= pod["metadata"].get("labels", {}).items()
        ]
        return ClusterView(job, tuple(pod for pod in every if job is None or pods.is_of(pod, job)))

    def _labels(self, component: Component, attempt: int | None) -> dict[str, str]:
        number = given({ATTEMPT_LABEL: None if attempt is None else str(attempt)})
        return {COMPONENT_LABEL: component, **selector(self._job), **number}

    async def _events(self, view: ClusterView, *, lacks_pods: bool) -> tuple[Object, ...]:
        """Events about what may have run into trouble that only Events tell: the Job, where it has too few pods, and
        those of its pods that have a node and do not start.
        """
        now = self._cluster.clock()
        asked = [pod for pod in view.pods if (pods.seconds_placed(pod, now) or 0) >= _PATIENCE_SECONDS]
        if lacks_pods and view.job is not None and _age_seconds(view.job, now) >= _PATIENCE_SECONDS:
            asked.append(view.job)
        if not asked:
            return ()
        uids = [each["metadata"]["uid"] for each in asked]
        return await self._cluster.warnings.about(self._job.metadata.namespace, uids)

    async def _progress(self, mine: tuple[Object, ...], port: int) -> dict[str, NodeProgress]:
        """The answer of the first node; of every node where that one does not answer or makes no steps for long.

        Nobody is asked as long as a pod has yet to start: until then the others wait for its name.
        """
        if any(not pods.is_running(pod) and not pods.has_ended(pod) for pod in mine):
            return {}
        running = [pod for pod in mine if pods.is_running(pod) and pod["status"].get("podIP")]
        first = [pod for pod in running if pods.index(pod) == 0]
        answers = await self._answers(first, port)
        if first and (all(_gets_on(answer) for answer in answers.values()) if answers else self._is_fresh(first[0])):
            return answers
        return answers | await self._answers([pod for pod in running if pod not in first], port)

    def _is_fresh(self, pod: Object) -> bool:
        """Whether a pod that says nothing may be on its way: a launcher answers within seconds."""
        seconds = pods.seconds_running(pod, self._cluster.clock())
        return seconds is not None and seconds < _STUCK_SECONDS

    async def _answers(self, asked: list[Object], port: int) -> dict[str, NodeProgress]:
        found = await asyncio.gather(*(self._cluster.launchers.progress(pod["status"]["podIP"], port) for pod in asked))
        return {pods.name(pod): answer for pod, answer in zip(asked, found, strict=True) if answer is not None}


def _created(made: Object) -> datetime:
    return datetime.fromisoformat(made["metadata"]["creationTimestamp"])


def _age_seconds(made: Object, now: datetime) -> float:
    return (now - _created(made)).total_seconds()


def _owners(made: Object) -> set[str]:
    return {owner["uid"] for owner in made["metadata"].get("ownerReferences", ())}


def _require_owner(made: Object, wanted: Object) -> None:
    """See that an object is this job's.

    Raises:
        TemporaryError: it is another's, which may be about to go.
    """
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    if _owners(made) != _owners(wanted):
        raise TemporaryError(
            f"the {kind} {name} is there already, and is not this job's: it is left alone",
            f"rename it, or delete it: `kubectl delete {kind.lower()} {name}`",
        )


def _gets_on(answer: NodeProgress) -> bool:
    return all(rank.step_age_seconds < _STUCK_SECONDS for rank in answer.ranks)
