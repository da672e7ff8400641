"""What the watches have told: resources, their Jobs and their pods. The API server is asked for none of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.kubernetes.pods import job_of


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

    def keep_job(self, name: str, job: Object) -> None:
        """Take over a newer version of a Job."""
        if _is_newer(job, self.jobs.get(name)):
            self.jobs[name] = job

    def drop_job(self, name: str) -> None:
        """A Job is gone, and with it what was known of its pods."""
        self.jobs.pop(name, None)
        self.pods = {pod: known for pod, known in self.pods.items() if job_of(known) != name}

    def keep_pod(self, name: str, pod: Object | None) -> None:
        """Take over a newer version of a pod; None: it is gone, and nothing is to be learnt of it."""
        if pod is None:
            self.pods.pop(name, None)
        elif _is_newer(pod, self.pods.get(name)):
            self.pods[name] = pod


class Store:
    """The newest known version of every object."""

    def __init__(self) -> None:
        self._resources: dict[Key, Object] = {}
        self._children: defaultdict[Key, Children] = defaultdict(Children)

    def resource(self, key: Key) -> Object | None:
        """The resource; None where it is gone."""
        return self._resources.get(key)

    def children(self, key: Key) -> Children:
        """What belongs to the resource."""
        return self._children[key]

    def resources(self) -> Iterator[tuple[Key, Object]]:
        """All of them."""
        yield from self._resources.items()

    def keep_resource(self, key: Key, resource: Object | None) -> None:
        """Take over a newer version of a resource, or that it is gone."""
        if resource is None:
            self._resources.pop(key, None)
            self._children.pop(key, None)
        elif _is_newer(resource, self._resources.get(key)):
            self._resources[key] = resource


def _is_newer(candidate: Object, known: Object | None) -> bool:
    """Resource versions of one kind of object grow (KEP-5504); an answer to a write may overtake the watch."""
    if known is None or candidate["metadata"]["uid"] != known["metadata"]["uid"]:
        return True
    return int(candidate["metadata"]["resourceVersion"]) >= int(known["metadata"]["resourceVersion"])
