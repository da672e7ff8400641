"""The objects of one job on a cluster: found by their labels, made, and distinguished from another's."""

from __future__ import annotations

import logging
import secrets
from datetime import datetime

from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.kubernetes import pod_state
from zerotune_operator.backends.kubernetes.api_errors import ConflictError, MissingError
from zerotune_operator.backends.kubernetes.cache import Key
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.job_state import trim_job
from zerotune_operator.backends.kubernetes.objects import (
    ATTEMPT_LABEL,
    COMPONENT_LABEL,
    Component,
    Object,
    given,
    is_edited,
    selector,
)
from zerotune_operator.backends.kubernetes.observe import ClusterView
from zerotune_trainer.config import RENDEZVOUS_FILE
from zerotune_trainer.errors import TemporaryError

_logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 10
"""What waits for no longer than this may well be on its way."""


class OwnedObjects:
    """The Jobs, pods and shared objects of one job.

    Args:
        job: The job.
        cluster: Where.
    """

    def __init__(self, job: Job, cluster: Cluster) -> None:
        self._job, self._cluster = job, cluster
        self._known = cluster.cache.children(Key(job.kind, job.metadata.namespace, job.metadata.name))

    @property
    def probes_failed(self) -> int:
        """Probes of the job's model that failed in a row."""
        return self._known.probes_failed

    @probes_failed.setter
    def probes_failed(self, number: int) -> None:
        self._known.probes_failed = number

    def job_of(self, component: Component, attempt: int | None = None) -> Object | None:
        """The Job of an attempt, or that reads the model, by its labels: names are made otherwise in other versions.
        None where it is that of a resource that had this one's name before.
        """
        wanted = self._labels(component, attempt)
        made = (job for job in self._known.jobs.values() if wanted.items() <= job["metadata"].get("labels", {}).items())
        return next((job for job in made if self._job.metadata.uid in owners(job)), None)

    def view(self, component: Component, attempt: int | None = None) -> ClusterView:
        """What is known of it and its pods: where the Job is there, those that it made; else all that there are."""
        job, wanted = self.job_of(component, attempt), self._labels(component, attempt)
        every = [
            pod for pod in self._known.pods.values() if wanted.items() <= pod["metadata"].get("labels", {}).items()
        ]
        mine = tuple(pod for pod in every if job is None or pod_state.is_of(pod, job))
        return ClusterView(job, mine, seen_at=self._cluster.clock())

    async def make(self, wanted: Object) -> None:
        """Create a Job, or find it as it is where it was created before: its template cannot change, and where a queue
        admitted it, `suspend` is the queue's.

        Raises:
            TemporaryError: one of this name is another's, or the API server does not answer.
        """
        try:
            made = await self._cluster.client.create(wanted, strict=True)
        except ConflictError:
            made = await self._cluster.client.read(wanted)
        _require_owner(made, wanted)
        self._known.upsert_job(wanted["metadata"]["name"], trim_job(made))

    async def share(self, wanted: Object) -> Object:
        """Create an object that pods share, or bring it up to date; one of its name that is another's is left alone.

        Raises:
            TemporaryError: one of this name is another's, or the API server does not answer.
        """
        client = self._cluster.client
        try:
            return await client.create(wanted)
        except ConflictError as error:
            made = await client.read_metadata(wanted)
            if made is None:
                raise TemporaryError(error.message, "it goes at this moment, and is made again") from error
            _require_owner(made, wanted)
            if not wanted.get("immutable"):
                await client.apply(wanted)
            return made

    async def restore(self, wanted: Object) -> Object:
        """Make an object that pods share again where it was deleted, and undo what somebody has edited of it.

        Raises:
            TemporaryError: one of its name is another's, or the API server does not answer.
        """
        client, found = self._cluster.client, await self._find(wanted)
        if found is None:
            _logger.warning("%s %s was deleted, and is made again", wanted["kind"], wanted["metadata"]["name"])
            return await self.share(wanted)
        if not wanted.get("immutable") and self._job.metadata.uid in owners(found) and is_edited(found, wanted):
            _logger.warning("%s %s was edited, and becomes what it was", wanted["kind"], wanted["metadata"]["name"])
            await client.apply(wanted)
        return found

    async def make_secret(self, wanted: Object, config_map: Object) -> None:
        """Create the Secret of an attempt, of random content; one that exists stays: the operator reads no Secrets.

        It belongs to the ConfigMap of the attempt: the garbage collector deletes it with that one. The operator has no
        right to delete a Secret, and so no user's.

        Raises:
            ConfigurationError: the API server rejects it.
            TemporaryError: it does not answer.
        """
        try:
            await self._cluster.client.create(
                {
                    **wanted,
                    "metadata": wanted["metadata"] | {"ownerReferences": [_reference(config_map)]},
                    "stringData": {RENDEZVOUS_FILE: secrets.token_hex(32)},
                }
            )
        except ConflictError:
            return  # Made by an earlier try, whose pods may have read it.

    async def delete_config_map(self, name: str) -> None:
        """Delete the ConfigMap of an attempt, and with it its Secret; another's of that name is left alone.

        Raises:
            TemporaryError: the API server does not answer.
        """
        wanted = {"apiVersion": "v1", "kind": "ConfigMap"}
        place = {"name": name, "namespace": self._job.metadata.namespace}
        made = await self._cluster.client.read_metadata(wanted | {"metadata": place})
        if made is not None and self._job.metadata.uid in owners(made):
            await self._cluster.client.delete(wanted | {"metadata": made["metadata"]})

    async def events(self, view: ClusterView, *, lacks_pods: bool) -> tuple[Object, ...]:
        """Events about what may have run into trouble that only Events report: the Job, where it has too few pods, and
        those of its pods that have a node and do not start, or that no scheduler has considered.
        """
        now = self._cluster.clock()
        asked = [pod for pod in view.pods if _is_slow(pod, now)]
        if lacks_pods and view.job is not None and age_seconds(view.job, now) >= PATIENCE_SECONDS:
            asked.append(view.job)
        if not asked:
            return ()
        uids = [each["metadata"]["uid"] for each in asked]
        return await self._cluster.warnings.about(self._job.metadata.namespace, uids)

    async def _find(self, wanted: Object) -> Object | None:
        """The object as it is. What cannot change may be large, and is read without its content."""
        if wanted.get("immutable"):
            return await self._cluster.client.read_metadata(wanted)
        try:
            return await self._cluster.client.read(wanted)
        except MissingError:
            return None

    def _labels(self, component: Component, attempt: int | None) -> dict[str, str]:
        number = given({ATTEMPT_LABEL: None if attempt is None else str(attempt)})
        return {COMPONENT_LABEL: component, **selector(self._job), **number}


def _is_slow(pod: Object, now: datetime) -> bool:
    """Whether a pod takes longer than usual to start, and its conditions do not say why."""
    considered = pod_state.condition(pod, "PodScheduled")
    seconds = pod_state.seconds_placed(pod, now) if considered else age_seconds(pod, now)
    return (seconds or 0) >= PATIENCE_SECONDS


def created(made: Object) -> datetime:
    """When an object was created."""
    return datetime.fromisoformat(made["metadata"]["creationTimestamp"])


def age_seconds(made: Object, now: datetime) -> float:
    """For how long an object has existed."""
    return (now - created(made)).total_seconds()


def owners(made: Object) -> set[str]:
    """The uids of what an object goes away with."""
    return {owner["uid"] for owner in made["metadata"].get("ownerReferences", ())}


def _reference(config_map: Object) -> Object:
    metadata = config_map["metadata"]
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": metadata["name"], "uid": metadata["uid"]}


def _require_owner(made: Object, wanted: Object) -> None:
    """See that an object is this job's.

    Raises:
        TemporaryError: it is another's, which may be about to go.
    """
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    if owners(made) != owners(wanted):
        raise TemporaryError(
            f"the {kind} {name} is there already, and is not this job's: it is left alone",
            f"rename it, or delete it: `kubectl delete {kind.lower()} {name}`",
        )
