"""What wakes the operator: kopf's watches. The only file that imports kopf."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection
from typing import Any

import kopf

from zerotune_operator.api.crd import KINDS
from zerotune_operator.api.jobs import GROUP, VERSION
from zerotune_operator.backends.kubernetes.jobstate import trim_job
from zerotune_operator.backends.kubernetes.objects import JOB_KIND_LABEL, JOB_NAME_LABEL
from zerotune_operator.backends.kubernetes.pods import has_ended, trim_pod
from zerotune_operator.models import source_key
from zerotune_operator.store import Key, Store
from zerotune_operator.workqueue import WorkQueue

_TOGETHER_SECONDS = 0.2
"""Events of a job's pods come in bursts: one turn answers them all."""

_ours = {JOB_NAME_LABEL: kopf.PRESENT, JOB_KIND_LABEL: kopf.PRESENT}


class Handlers:
    """Keep `store` up to date, and put what changed into `queue`."""

    def __init__(self, store: Store, queue: WorkQueue[Key]) -> None:
        self._store, self._queue = store, queue
        self._followers: defaultdict[Key, set[Key]] = defaultdict(set)
        """Those that run the output of a FineTuneJob."""
        self._news: set[str] = set()
        """Objects, by uid, whose newest version tells something that was not known: the others wake nobody."""

    def registry(self) -> kopf.OperatorRegistry:
        """The handlers, as kopf calls them.

        Everything is kept by index functions: kopf calls no other handler before all of them have run over what is
        there, so the first turn of a resource sees all that it depends on.
        """
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_log_in)
        kopf.index("batch", "v1", "jobs", labels=_ours, registry=registry)(self.keep_job)
        kopf.index("", "v1", "pods", labels=_ours, registry=registry)(self.keep_pod)
        kopf.on.event("batch", "v1", "jobs", labels=_ours, registry=registry)(self.job_changed)
        kopf.on.event("", "v1", "pods", labels=_ours, registry=registry)(self.pod_changed)
        for kind in KINDS:
            kopf.index(GROUP, VERSION, kind.plural, registry=registry)(self.keep_resource)
            kopf.on.event(GROUP, VERSION, kind.plural, registry=registry)(self.resource_changed)
        return registry

    async def keep_job(self, body: kopf.Body, **_: Any) -> None:
        """A Job is there."""
        if self._store.children(_owner(body)).keep_job(_name(body), trim_job(dict(body))):
            self._news.add(_uid(body))

    async def keep_pod(self, body: kopf.Body, **_: Any) -> None:
        """A pod is there."""
        if self._store.children(_owner(body)).keep_pod(_name(body), trim_pod(dict(body))):
            self._news.add(_uid(body))

    async def keep_resource(self, body: kopf.Body, **_: Any) -> None:
        """A FineTuneJob or InferenceJob is there."""
        if self._store.keep_resource(_key(body), dict(body)):
            self._news.add(_uid(body))

    async def job_changed(self, body: kopf.Body, event: kopf.RawEvent, **_: Any) -> None:
        """A Job is new, changed or gone."""
        gone = event["type"] == "DELETED"
        if gone:
            self._store.children(_owner(body)).drop_job(_name(body))
        if self._is_news(body) or gone:
            self._queue.add(_owner(body), _TOGETHER_SECONDS)

    async def pod_changed(self, body: kopf.Body, event: kopf.RawEvent, **_: Any) -> None:
        """A pod is new, changed or gone."""
        gone = event["type"] == "DELETED"
        if gone:
            self._part_with(body)
        if self._is_news(body) or gone:
            self._queue.add(_owner(body), _TOGETHER_SECONDS)

    async def resource_changed(self, body: kopf.Body, event: kopf.RawEvent, **_: Any) -> None:
        """A FineTuneJob or InferenceJob is new, changed or gone."""
        key, gone = _key(body), event["type"] == "DELETED"
        if gone:
            self._store.drop_resource(key)
        if self._is_news(body) or gone:
            self._queue.add(key)
        if origin := source_key(key, dict(body)):
            (self._followers[origin].discard if gone else self._followers[origin].add)(key)
        for follower in self._followers.get(key, ()):
            self._queue.add(follower)

    def _part_with(self, body: kopf.Body) -> None:
        """A pod is gone. The last that was seen of it says why it ended, and may come with this event."""
        pod, known = trim_pod(dict(body)), self._store.children(_owner(body))
        if has_ended(pod):
            known.keep_pod(_name(body), pod)
        else:
            known.drop_pod(_name(body))

    def _is_news(self, body: kopf.Body) -> bool:
        """Whether the version of an object that was kept last tells anything new; asked once."""
        news = _uid(body) in self._news
        self._news.discard(_uid(body))
        return news


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


async def watch(store: Store, queue: WorkQueue[Key], namespaces: Collection[str], ready: asyncio.Event) -> None:
    """Watch until cancelled; `ready` is set once everything that is there is known.

    Args:
        store: Kept up to date.
        queue: Gets what changed.
        namespaces: Those to watch; none stands for the whole cluster.
        ready: Set when the watches are up.
    """
    await kopf.operator(
        registry=Handlers(store, queue).registry(),
        settings=_settings(),
        standalone=True,  # The Lease says who leads.
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=ready,
    )


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # Events are told by `publish`.
    settings.scanning.disabled = True  # CRDs and namespaces are not watched: that takes rights over the whole cluster.
    settings.persistence.diffbase_storage = _NothingKept()
    settings.watching.label_selectors["", "v1", "pods"] = JOB_NAME_LABEL
    settings.watching.label_selectors["batch", "v1", "jobs"] = JOB_NAME_LABEL
    logging.getLogger("kopf").setLevel(logging.WARNING)
    return settings


async def _log_in(**arguments: Any) -> kopf.ConnectionInfo | None:
    """As `client.connect`: by the pod's service account, else by KUBECONFIG."""
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


def _key(body: kopf.Body) -> Key:
    return Key(body["kind"], _namespace(body), _name(body))


def _owner(body: kopf.Body) -> Key:
    labels = body.metadata["labels"]
    return Key(labels[JOB_KIND_LABEL], _namespace(body), labels[JOB_NAME_LABEL])


def _name(body: kopf.Body) -> str:
    return str(body.metadata["name"])


def _namespace(body: kopf.Body) -> str:
    return str(body.metadata["namespace"])


def _uid(body: kopf.Body) -> str:
    return str(body.metadata["uid"])
