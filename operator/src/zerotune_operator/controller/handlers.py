"""What wakes the operator: our own watches of Jobs and pods, and kopf's of resources. Nothing else imports kopf."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection
from typing import Any

import kopf

from zerotune_operator.api.crd import KINDS
from zerotune_operator.api.jobs import GROUP, VERSION
from zerotune_operator.backends.kubernetes.cache import Key, Store
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.job_state import JobState, trim_job
from zerotune_operator.backends.kubernetes.model_source import source_keys
from zerotune_operator.backends.kubernetes.objects import JOB_KIND_LABEL, JOB_NAME_LABEL, Object
from zerotune_operator.backends.kubernetes.pod_state import has_ended, trim_pod
from zerotune_operator.controller.watches import Listener, Watch
from zerotune_operator.controller.workqueue import WorkQueue
from zerotune_trainer.errors import ZerotuneError

_START_SECONDS, _END_SECONDS = 1.0, 0.1
"""How long a turn waits for more of the same: pods start in bursts, and what ends one wants an answer soon."""

_OURS = f"{JOB_NAME_LABEL},{JOB_KIND_LABEL} in ({','.join(kind.name for kind in KINDS)})"
"""Selects the Jobs and pods of our resources. A stranger's object of any other kind label is none: each would make a
series of its own in the metrics."""


class Handlers:
    """Keep `store` up to date, and put what changed into `queue`."""

    def __init__(self, store: Store, queue: WorkQueue[Key]) -> None:
        self._store, self._queue = store, queue
        self._followers: defaultdict[Key, set[Key]] = defaultdict(set)
        """Those that run the output of a FineTuneJob."""
        self._news: set[Key] = set()
        """Resources whose newest version tells something that was not known."""
        self._all_known = False
        """Whether everything is known that was there at the start: no resource has a turn before."""

    def registry(self) -> kopf.OperatorRegistry:
        """The handlers, as kopf calls them.

        Resources are kept by index functions: kopf calls no other handler before all of them have run over what is
        there, so the first turn of a resource sees all that it depends on.
        """
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_log_in)
        for kind in KINDS:
            kopf.index(GROUP, VERSION, kind.plural, registry=registry)(self.keep_resource)
            kopf.on.event(GROUP, VERSION, kind.plural, registry=registry)(self.resource_changed)
        return registry

    async def keep_resource(self, body: kopf.Body, **_: Any) -> None:
        """A FineTuneJob or InferenceJob is new, or changed."""
        if self._store.keep_resource(_key(body), dict(body)):
            self._news.add(_key(body))

    async def resource_changed(self, body: kopf.Body, event: kopf.RawEvent, **_: Any) -> None:
        """A FineTuneJob or InferenceJob is new, changed or gone."""
        self._all_known = True
        key, gone = _key(body), event["type"] == "DELETED"
        if gone:
            self._store.drop_resource(key)
        if key in self._news or gone:
            self._queue.add(key)
        self._news.discard(key)
        for origin in source_keys(key, dict(body)):
            (self._followers[origin].discard if gone else self._followers[origin].add)(key)
        for follower in self._followers.get(key, ()):
            self._queue.add(follower)

    def keep_job(self, job: Object) -> None:
        """A Job is new, or changed."""
        seen = trim_job(job)
        if self._store.children(_owner(job)).keep_job(job["metadata"]["name"], seen):
            self._wake(_owner(job), _END_SECONDS if JobState(seen).is_closed else _START_SECONDS)

    def keep_pod(self, pod: Object) -> None:
        """A pod is new, or changed."""
        seen = trim_pod(pod)
        if self._store.children(_owner(pod)).keep_pod(pod["metadata"]["name"], seen):
            self._wake(_owner(pod), _END_SECONDS if has_ended(seen) else _START_SECONDS)

    def drop_job(self, job: Object) -> None:
        """A Job is gone."""
        self._store.children(_owner(job)).drop_job(job["metadata"]["name"], job["metadata"]["uid"])
        self._wake(_owner(job), _END_SECONDS)

    def drop_pod(self, pod: Object) -> None:
        """A pod is gone. Why it ended may come with this event."""
        known = self._store.children(_owner(pod))
        if "status" in pod:
            known.keep_pod(pod["metadata"]["name"], trim_pod(pod))
        known.drop_pod(pod["metadata"]["name"], pod["metadata"]["uid"])
        self._wake(_owner(pod), _END_SECONDS)

    def _wake(self, owner: Key, after: float) -> None:
        if self._all_known:  # Else it has its first turn yet to come.
            self._queue.add(owner, after)


class _NothingKept(kopf.DiffBaseStorage):
    """What kopf compares resources with, to tell what changed in them. No handler here asks for that, and the copies
    that it takes of every object at every event were more than half of the operator's work.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        """Nothing."""
        return

    def store(self, **_: Any) -> None:
        """Keep nothing."""


async def watch(
    store: Store, queue: WorkQueue[Key], client: ClusterClient, namespaces: Collection[str], ready: asyncio.Event
) -> None:
    """Watch until cancelled; `ready` is set once everything that is there is known.

    Args:
        store: Kept up to date.
        queue: Gets what changed.
        client: The line to the API server.
        namespaces: Those to watch; none stands for the whole cluster.
        ready: Set when the watches are up.

    Raises:
        ZerotuneError: the API server rejects the watches.
    """
    handlers = Handlers(store, queue)
    watches = _watches(handlers, client, namespaces)
    try:
        async with asyncio.TaskGroup() as group:
            following = [group.create_task(each.run()) for each in watches]
            for each in watches:
                await each.listed.wait()
            await kopf.operator(
                registry=handlers.registry(),
                settings=_settings(),
                standalone=True,  # The Lease says who leads.
                clusterwide=not namespaces,
                namespaces=namespaces,
                ready_flag=ready,
            )
            for task in following:
                task.cancel()
    except* ZerotuneError as errors:
        raise errors.exceptions[0] from errors


def _watches(handlers: Handlers, client: ClusterClient, namespaces: Collection[str]) -> list[Watch]:
    """Of Jobs first: a pod counts as a Job's when that is known."""
    scopes = [f"namespaces/{name}/" for name in namespaces] or [""]
    jobs, pods = Listener(handlers.keep_job, handlers.drop_job), Listener(handlers.keep_pod, handlers.drop_pod)
    return [
        Watch(client, f"{root}/{scope}{plural}", _OURS, listener)
        for root, plural, listener in (("/apis/batch/v1", "jobs", jobs), ("/api/v1", "pods", pods))
        for scope in scopes
    ]


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # `status_writer` writes the Events.
    settings.scanning.disabled = True  # CRDs and namespaces are not watched: that takes rights over the whole cluster.
    settings.persistence.diffbase_storage = _NothingKept()
    logging.getLogger("kopf").setLevel(logging.WARNING)
    return settings


async def _log_in(**arguments: Any) -> kopf.ConnectionInfo | None:
    """As `client.connect`: by the pod's service account, else by KUBECONFIG."""
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


def _key(body: kopf.Body) -> Key:
    return Key(body["kind"], str(body.metadata["namespace"]), str(body.metadata["name"]))


def _owner(found: Object) -> Key:
    metadata = found["metadata"]
    return Key(metadata["labels"][JOB_KIND_LABEL], metadata["namespace"], metadata["labels"][JOB_NAME_LABEL])
