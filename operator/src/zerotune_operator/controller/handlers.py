"""The operator as kopf runs it: start-up and cleanup, login, and the events of FineTuneJobs and InferenceJobs. Nothing
else imports kopf.

Not kopf's are (the figures and its limits are those of version 1.45):

    Jobs, pods          `controller.watches` says why
    what to do when     `controller.workqueue`: a key that is due once, now or later, whatever happened to it meanwhile.
                        kopf's handlers are tied to the event that called them
    who leads           `controller.leadership`: kopf's peering takes an object of a kind of its own, and every replica
                        that sees no other works; a Lease has one holder
    probes, metrics     `controller.health`
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import kopf

from zerotune_operator.api.crd import KINDS
from zerotune_operator.api.jobs import GROUP, VERSION
from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.connection import Connection
from zerotune_operator.backends.kubernetes.job_state import JobState, trim_job
from zerotune_operator.backends.kubernetes.model_source import source_keys
from zerotune_operator.backends.kubernetes.objects import JOB_KIND_LABEL, JOB_NAME_LABEL, Object
from zerotune_operator.backends.kubernetes.pod_state import has_ended, trim_pod
from zerotune_operator.controller.watches import EventHandler, Watch
from zerotune_operator.controller.workqueue import WorkQueue
from zerotune_trainer.errors import ZerotuneError

_START_SECONDS, _END_SECONDS = 1.0, 0.1
"""How long a reconcile waits for more events: pods start in bursts, and what ends one is to be handled soon."""

_OURS = f"{JOB_NAME_LABEL},{JOB_KIND_LABEL} in ({','.join(kind.name for kind in KINDS)})"
"""Selects the Jobs and pods of our resources. A stranger's object of any other kind label is none: each would make a
series of its own in the metrics."""


Activity = Callable[..., Awaitable[None]]
"""What kopf calls once, when it starts or ends."""


class Handlers:
    """Keep `cache` up to date, and put what changed into `queue`."""

    def __init__(self, cache: Cache, queue: WorkQueue[Key]) -> None:
        self._cache, self._queue = cache, queue
        self._followers: defaultdict[Key, set[Key]] = defaultdict(set)
        """Those that run the output of a FineTuneJob."""
        self._news: set[Key] = set()
        """Resources whose newest version differs from what was known."""
        self._all_known = False
        """Whether everything that existed at the start is known: no resource is reconciled before."""

    def registry(self, connection: Connection, start: Activity, stop: Activity) -> kopf.OperatorRegistry:
        """The handlers, as kopf calls them.

        Resources are stored by index functions: kopf calls no other handler before all of them have run over what
        exists, so the first reconcile of a resource sees all that it depends on.
        """
        registry = kopf.OperatorRegistry()
        kopf.on.startup(registry=registry, errors=kopf.ErrorsMode.PERMANENT)(start)
        kopf.on.cleanup(registry=registry, errors=kopf.ErrorsMode.PERMANENT)(stop)
        kopf.on.login(registry=registry)(login(connection))
        for kind in KINDS:
            kopf.index(GROUP, VERSION, kind.plural, registry=registry)(self.upsert_resource)
            kopf.on.event(GROUP, VERSION, kind.plural, registry=registry)(self.resource_changed)
        return registry

    async def upsert_resource(self, body: kopf.Body, **_: Any) -> None:
        """A FineTuneJob or InferenceJob is new, or changed."""
        if self._cache.upsert_resource(_key(body), dict(body)):
            self._news.add(_key(body))

    async def resource_changed(self, body: kopf.Body, event: kopf.RawEvent, **_: Any) -> None:
        """A FineTuneJob or InferenceJob is new, changed or deleted."""
        self._all_known = True
        key, deleted = _key(body), event["type"] == "DELETED"
        if deleted:
            self._cache.delete_resource(key)
        if key in self._news or deleted:
            self._queue.add(key)
        self._news.discard(key)
        for origin in source_keys(key, dict(body)):
            (self._followers[origin].discard if deleted else self._followers[origin].add)(key)
        for follower in self._followers.get(key, ()):
            self._queue.add(follower)

    def upsert_job(self, job: Object) -> None:
        """A Job is new, or changed."""
        seen = trim_job(job)
        if self._cache.children(_owner(job)).upsert_job(job["metadata"]["name"], seen):
            self._wake(_owner(job), _END_SECONDS if JobState(seen).is_closed else _START_SECONDS)

    def upsert_pod(self, pod: Object) -> None:
        """A pod is new, or changed."""
        seen = trim_pod(pod)
        if self._cache.children(_owner(pod)).upsert_pod(pod["metadata"]["name"], seen):
            self._wake(_owner(pod), _END_SECONDS if has_ended(seen) else _START_SECONDS)

    def delete_job(self, job: Object) -> None:
        """A Job is deleted."""
        self._cache.children(_owner(job)).delete_job(job["metadata"]["name"], job["metadata"]["uid"])
        self._wake(_owner(job), _END_SECONDS)

    def delete_pod(self, pod: Object) -> None:
        """A pod is deleted. Why it ended may come with this event."""
        known = self._cache.children(_owner(pod))
        if "status" in pod:
            known.upsert_pod(pod["metadata"]["name"], trim_pod(pod))
        known.delete_pod(pod["metadata"]["name"], pod["metadata"]["uid"])
        self._wake(_owner(pod), _END_SECONDS)

    def _wake(self, owner: Key, after: float) -> None:
        if self._all_known:  # Else its first reconcile is yet to come.
            self._queue.add(owner, after)


class _NoDiffBase(kopf.DiffBaseStorage):
    """What kopf compares resources with to find what changed in them. No handler here uses that, and the copies that it
    takes of every object at every event were more than half of the operator's work.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        """Nothing."""
        return

    def store(self, **_: Any) -> None:
        """Store nothing."""


async def operate(
    cache: Cache, queue: WorkQueue[Key], client: ClusterClient, namespaces: Collection[str], ready: asyncio.Event
) -> None:
    """Run kopf until a signal, or until cancelled; then the queue is closed.

    Args:
        cache: Kept up to date.
        queue: Gets what changed.
        client: The API server.
        namespaces: Those to watch; none stands for the whole cluster.
        ready: Set when the watches are up.

    Raises:
        ZerotuneError: the API server rejects the watches.
    """
    handlers = Handlers(cache, queue)
    watches = _watches(handlers, client, namespaces)
    try:
        async with asyncio.TaskGroup() as group:
            following: list[asyncio.Task[Any]] = [group.create_task(_close_when_cancelled(queue))]

            async def start(**_: Any) -> None:
                following.extend(group.create_task(each.run()) for each in watches)
                for each in watches:
                    await each.listed.wait()

            async def stop(**_: Any) -> None:
                # Now: kopf waits five seconds for tasks that it did not start, and then cancels them in any order.
                for task in following:
                    task.cancel()
                await asyncio.gather(*following, return_exceptions=True)  # The first of them closes the queue.

            # A task of the group: where this is cancelled, the queue and the watches end at once with kopf, not after.
            kopf_operator = kopf.operator(
                registry=handlers.registry(client.connection, start, stop),
                settings=settings(),
                standalone=True,  # The Lease says who leads.
                clusterwide=not namespaces,
                namespaces=namespaces,
                ready_flag=ready,
            )
            group.create_task(kopf_operator)
    except* ZerotuneError as errors:
        raise errors.exceptions[0] from errors


async def _close_when_cancelled(queue: WorkQueue[Key]) -> None:
    """Who leads no more must not write any more, and kopf takes seconds to end: another replica may lead by then."""
    try:
        await asyncio.Event().wait()
    finally:
        await queue.close()


def _watches(handlers: Handlers, client: ClusterClient, namespaces: Collection[str]) -> list[Watch]:
    """Of Jobs first: a pod counts as a Job's when that is known."""
    scopes = [f"namespaces/{name}/" for name in namespaces] or [""]
    jobs = EventHandler(handlers.upsert_job, handlers.delete_job)
    pods = EventHandler(handlers.upsert_pod, handlers.delete_pod)
    return [
        Watch(client, f"{root}/{scope}{plural}", _OURS, handler)
        for root, plural, handler in (("/apis/batch/v1", "jobs", jobs), ("/api/v1", "pods", pods))
        for scope in scopes
    ]


def settings() -> kopf.OperatorSettings:
    """What of kopf is switched off, and why."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False  # `status_writer` writes the Events.
    chosen.scanning.disabled = True  # CRDs and namespaces are not watched: that takes rights over the whole cluster.
    chosen.persistence.diffbase_storage = _NoDiffBase()
    logging.getLogger("kopf").setLevel(logging.WARNING)
    return chosen


def login(connection: Connection) -> Callable[..., Awaitable[kopf.AiohttpSession]]:
    """kopf's handler of a login: what it asks goes through our connections."""

    async def log_in(**_: Any) -> kopf.AiohttpSession:
        """A session as our own: kopf asks for another one when the API server knows the token no more."""
        return kopf.AiohttpSession(server=connection.server, aiohttp_session=connection.open_session())

    return log_in


def _key(body: kopf.Body) -> Key:
    return Key(body["kind"], str(body.metadata["namespace"]), str(body.metadata["name"]))


def _owner(found: Object) -> Key:
    metadata = found["metadata"]
    return Key(metadata["labels"][JOB_KIND_LABEL], metadata["namespace"], metadata["labels"][JOB_NAME_LABEL])
