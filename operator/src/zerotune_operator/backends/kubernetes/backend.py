"""The Kubernetes backend: an Indexed Job an attempt, seen through the watches and the launchers' `/progress`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import RootCause
from zerotune_operator.backends.base import Observation
from zerotune_operator.backends.kubernetes import pods
from zerotune_operator.backends.kubernetes.answers import ConflictError
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.events import WarningEvents
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.jobstate import trim_job
from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_operator.backends.kubernetes.objects import Object, attempt_name, inspection_name
from zerotune_operator.backends.kubernetes.observe import ClusterView, observe, shape_of_inspection
from zerotune_operator.backends.kubernetes.placement import host_name, place
from zerotune_operator.backends.kubernetes.render import KubernetesAttempt, render, render_inspection
from zerotune_operator.backends.kubernetes.support import require_kubernetes
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

    def render(self, plan: Plan) -> KubernetesAttempt:
        """The objects of the attempt that `plan` is for."""
        return render(plan, self._job, self._cluster.installation)

    def recall(self, attempt: int, config_digest: str) -> KubernetesAttempt:
        """An attempt that was started before, as far as it is looked at. It is not planned anew: an operator of another
        version would plan otherwise.
        """
        return KubernetesAttempt(
            number=attempt,
            hosts=tuple(host_name(self._job, attempt, index) for index in range(self._job.spec.topology.nodes)),
            shared=(),
            job={"metadata": {"name": attempt_name(self._job, attempt)}},
            progress_port=Launch.model_fields["progress_port"].default,
            uid=self._job.metadata.uid,
            config_digest=config_digest,
        )

    def age_seconds(self, attempt: int) -> float | None:
        """For how long there has been a Job of an attempt, be it on its way out; None where there is none."""
        job = self._job_of(attempt_name(self._job, attempt))
        return None if job is None else _age_seconds(job, self._cluster.clock())

    async def apply(self, rendered: KubernetesAttempt) -> None:
        """Make the objects be; a Job that is there stays as it is.

        Raises:
            ConfigurationError: the API server refuses them.
            TemporaryError: it does not answer.
        """
        await asyncio.gather(*(self._cluster.client.apply(wanted) for wanted in rendered.shared))
        await self._make(rendered.job)

    async def observe(self, rendered: KubernetesAttempt) -> Observation:
        """What the pods of an attempt do.

        Raises:
            TemporaryError: the API server does not answer.
        """
        view = self._view(rendered.name)
        view = replace(view, progress=await self._progress(view.pods, rendered.progress_port))
        seen = observe(rendered, view)
        waiting = [node for node in seen.nodes if node.state == "waiting"]
        if seen.queued or not waiting:
            return seen
        events = await self._events(view, lacks_pods=any(node.pod is None for node in waiting))
        return observe(rendered, replace(view, events=events)) if events else seen

    async def stop(self, rendered: KubernetesAttempt) -> None:
        """Have the pods of an attempt that still run save and end; what the others said stays to be read.

        Raises:
            TemporaryError: the API server does not answer.
        """
        found = self._job_of(rendered.name)
        if found is None or "deletionTimestamp" in found["metadata"]:
            return
        if found.get("status", {}).get("startTime") is None:
            await self._cluster.client.delete(found)  # A queue holds it back: there is no pod.
        elif found["spec"].get("activeDeadlineSeconds") is None:
            # A Job that is over. A suspended one would be started again by its queue, a deleted one takes its pods'
            # termination messages along.
            await self._cluster.client.merge(found, {"spec": {"activeDeadlineSeconds": 1}})

    async def clear_away(self, attempt: int) -> None:
        """End what goes on after the launchers of an attempt, and delete the Job of the one that is beyond memory.

        Raises:
            TemporaryError: the API server does not answer.
        """
        if any(pods.lingers(pod) for pod in self._view(attempt_name(self._job, attempt)).pods):
            await self.stop(self.recall(attempt, ""))
        forgotten = self._job_of(attempt_name(self._job, attempt - ATTEMPTS_KEPT))
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
        name = inspection_name(self._job)
        known = self._job_of(name)
        if known is not None and since is not None and _created(known) < since:
            await self._cluster.client.delete(known)
            return Awaited("ModelInspection", f"{model_uri} has changed and is looked at again")
        if known is None:
            await self._make(render_inspection(self._job, model_uri, self._cluster.installation))
        view = self._view(name)
        found = shape_of_inspection(view)
        if found is None and (events := await self._events(view, lacks_pods=not view.pods)):
            found = shape_of_inspection(replace(view, events=events))
        if isinstance(found, ModelShape):
            return found
        if isinstance(found, RootCause) and found.exit_code is not None:
            await self._cluster.client.delete(self._known.jobs[name])
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
        name = wanted["metadata"]["name"]
        if _owners(made) != _owners(wanted):
            raise TemporaryError(f"the Job {name} is there already, and is another's", f"`kubectl delete job {name}`")
        self._known.keep_job(name, trim_job(made))

    def _job_of(self, name: str) -> Object | None:
        """The Job of a name; None where it is that of a resource that had this one's name before."""
        found = self._known.jobs.get(name)
        return found if found is not None and self._job.metadata.uid in _owners(found) else None

    def _view(self, name: str) -> ClusterView:
        job = self._job_of(name)
        return ClusterView(job, tuple(pod for pod in self._known.pods.values() if pods.is_of(pod, name, job)))

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


def _gets_on(answer: NodeProgress) -> bool:
    return all(rank.step_age_seconds < _STUCK_SECONDS for rank in answer.ranks)
