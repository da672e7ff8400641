"""What the watches have reported: resources, their Jobs and their pods. The API server is asked for none of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from zerotune_operator.backends.kubernetes.job_state import job_facts
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.kubernetes.pod_state import has_ended, job_of, pod_facts
from zerotune_operator.lifecycle.attempts import FINAL


class Key(NamedTuple):
    """A FineTuneJob or InferenceJob."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Children:
    """The Jobs and pods of a resource, by name."""

    def __init__(self) -> None:
        self.jobs: dict[str, Object] = {}
        self.pods: dict[str, Object] = {}
        self.probes_failed = 0
        """Probes of its model that failed in a row."""
        self.restored_at: datetime | None = None
        """When it was last seen that what the pods need is there."""

    def upsert_job(self, name: str, job: Object) -> bool:
        """Take over a newer version of a Job; whether it has facts that were not known."""
        known = self.jobs.get(name)
        if not _is_newer(job, known):
            return False
        self.jobs[name] = job
        return known is None or job_facts(known) != job_facts(job)

    def delete_job(self, name: str, uid: str) -> None:
        """A Job was deleted, and with it what was known of its pods that have ended; not where another one has its
        name by now. Pods that run go on after their Job: to save, or because they were orphaned.
        """
        known = self.jobs.get(name)
        if known is not None and known["metadata"]["uid"] == uid:
            del self.jobs[name]
            self.pods = {pod: seen for pod, seen in self.pods.items() if job_of(seen) != name or not has_ended(seen)}

    def upsert_pod(self, name: str, pod: Object) -> bool:
        """Take over a newer version of a pod; whether it has facts that were not known."""
        known = self.pods.get(name)
        if not _is_newer(pod, known):
            return False
        self.pods[name] = pod
        return pod_facts(known) != pod_facts(pod)

    def delete_pod(self, name: str, uid: str) -> None:
        """A pod was deleted. One that had ended is kept as long as its Job: it has the reason."""
        known = self.pods.get(name)
        if known is not None and known["metadata"]["uid"] == uid and not has_ended(known):
            del self.pods[name]


class Cache:
    """The newest known version of every object."""

    def __init__(self) -> None:
        self._resources: dict[Key, Object] = {}
        self._children: defaultdict[Key, Children] = defaultdict(Children)

    def resource(self, key: Key) -> Object | None:
        """The resource; None where it was deleted."""
        return self._resources.get(key)

    def children(self, key: Key) -> Children:
        """What belongs to the resource."""
        return self._children[key]

    def resources(self) -> Iterator[tuple[Key, Object]]:
        """All of them."""
        yield from self._resources.items()

    def upsert_resource(self, key: Key, resource: Object) -> bool:
        """Take over a newer version of a resource; whether it was not known, as what the operator wrote itself is."""
        if not _is_newer(resource, self._resources.get(key)):
            return False
        metadata = {name: value for name, value in resource["metadata"].items() if name != "managedFields"}
        kept = resource | {"metadata": metadata}
        if _has_finished(resource):
            kept = _digest(kept)
            self.children(key).pods.clear()
        self._resources[key] = kept
        return True

    def delete_resource(self, key: Key) -> None:
        """A resource was deleted, and what belonged to it is of no interest any more."""
        self._resources.pop(key, None)
        self._children.pop(key, None)


def _has_finished(resource: Object) -> bool:
    """Whether a resource is over, and all of its pods have ended: nothing of it is planned or observed any more."""
    status = resource.get("status") or {}
    attempts = status.get("attempts") or [{}]
    return status.get("phase") in FINAL and ("endTime" in attempts[-1] or not attempts[-1])


def _digest(resource: Object) -> Object:
    """A finished resource without what only a plan reads, and what may be large: finished ones are many."""
    metadata = {name: value for name, value in resource["metadata"].items() if name != "annotations"}
    spec = {name: value for name, value in resource["spec"].items() if name != "deepspeed"}
    spec["model"] = {name: value for name, value in spec.get("model", {}).items() if name != "chatTemplate"}
    kubernetes = spec.get("backend", {}).get("kubernetes")
    if kubernetes is not None:
        own = {name: value for name, value in kubernetes.items() if name != "pod"}
        spec["backend"] = spec["backend"] | {"kubernetes": own}
    status = {name: value for name, value in resource["status"].items() if name != "topology"}
    return resource | {"metadata": metadata, "spec": spec, "status": status}


def _is_newer(candidate: Object, known: Object | None) -> bool:
    """Resource versions of one kind of object grow (KEP-5504). An answer to a write may overtake the watch, which then
    still reports an older version, or an object that had the name before.
    """
    return known is None or int(candidate["metadata"]["resourceVersion"]) > int(known["metadata"]["resourceVersion"])
