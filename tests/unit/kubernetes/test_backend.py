"""What the backend takes for a job's own, of all that the watches tell."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from kubernetes.aio.client import ApiClient

from tests.unit.kubernetes.rendering import INSTALLATION, UID, fine_tune_job
from zerotune_operator.backends.base import Observation
from zerotune_operator.backends.kubernetes.backend import Cluster, KubernetesBackend
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.events import WarningEvents
from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_operator.reconcile import Reconciler
from zerotune_operator.slots import Slots
from zerotune_operator.store import Key, Store

KEY = Key("FineTuneJob", "default", "tune")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
AGE = 7
"""Seconds that everything has been there."""


def test_the_last_pod_of_a_deleted_job_is_not_taken_for_one_of_its_successor() -> None:
    """A job is deleted and created anew by the same name; the old pod has yet to save, and its name begins the same."""
    store = Store()
    store.children(KEY).keep_job("tune-a0", _job("new"))
    store.children(KEY).keep_pod("tune-a0-0-old", _ended_pod("old"))

    assert [node.state for node in asyncio.run(_observe(store)).nodes] == ["waiting"]


def test_a_job_of_a_resource_that_had_the_name_before_is_not_the_attempts() -> None:
    store = Store()
    store.children(KEY).keep_job("tune-a0", _job("old", owner="another"))
    assert asyncio.run(_age(store)) is None

    store.children(KEY).keep_job("tune-a0", _job("new", version="3"))
    assert asyncio.run(_age(store)) == AGE


def test_the_last_pod_of_a_job_counts_when_the_job_is_gone() -> None:
    store = Store()
    store.children(KEY).keep_pod("tune-a0-0-old", _ended_pod("old"))

    assert [node.state for node in asyncio.run(_observe(store)).nodes] == ["ended"]


def test_what_is_heard_of_a_resource_after_its_end_is_not_kept() -> None:
    store = Store()
    store.children(KEY).keep_pod("tune-a0-0-old", _ended_pod("old"))

    asyncio.run(_reconcile(store))

    assert store.children(KEY).pods == {}


async def _observe(store: Store) -> Observation:
    backend = KubernetesBackend(fine_tune_job(), _cluster(store))
    return await backend.observe(backend.recall(0, ""))


async def _age(store: Store) -> float | None:
    return KubernetesBackend(fine_tune_job(), _cluster(store)).age_seconds(0)


async def _reconcile(store: Store) -> None:
    assert await Reconciler(_cluster(store), 10, Slots()).reconcile(KEY) is None


def _cluster(store: Store) -> Cluster:
    """One whose API server is never asked."""
    client = ClusterClient(ApiClient())
    clock = NOW + timedelta(seconds=AGE)
    return Cluster(store, client, WarningEvents(client), Launchers(), INSTALLATION, lambda: clock)


def _job(uid: str, owner: str = UID, version: str = "2") -> dict[str, Any]:
    metadata = {"name": "tune-a0", "uid": uid, "resourceVersion": version, "creationTimestamp": NOW.isoformat()}
    return {"metadata": metadata | {"ownerReferences": [{"uid": owner}]}, "spec": {}, "status": {}}


def _ended_pod(job_uid: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "tune-a0-0-old",
            "uid": "p",
            "resourceVersion": "1",
            "annotations": {"batch.kubernetes.io/job-completion-index": "0"},
            "ownerReferences": [{"kind": "Job", "name": "tune-a0", "uid": job_uid}],
        },
        "spec": {"containers": [{"name": "trainer", "image": "i"}]},
        "status": {"phase": "Failed", "containerStatuses": [_stopped()]},
    }


def _stopped() -> dict[str, Any]:
    state = {"exitCode": 143, "reason": "Error", "finishedAt": NOW.isoformat()}
    return {"name": "trainer", "state": {"terminated": state}}
