"""What the backend takes for a job's own, of all that the watches report."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes.aio.client import Configuration

from tests.unit.kubernetes.rendering import INSTALLATION, UID, fine_tune_job, trainer, tuned
from zerotune_operator.backends.kubernetes.backend import KubernetesBackend
from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.connection import Connection
from zerotune_operator.backends.kubernetes.events import WarningEvents
from zerotune_operator.backends.kubernetes.job_state import trim_job
from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_operator.backends.kubernetes.objects import labels
from zerotune_operator.controller.reconcile import Reconciler
from zerotune_operator.lifecycle.observation import AttemptRef, Observation

KEY = Key("FineTuneJob", "default", "tune")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
AGE = 7
"""Seconds that everything has been there."""


def test_the_last_pod_of_a_deleted_job_is_not_taken_for_one_of_its_successor() -> None:
    """A job is deleted and created anew by the same name; the old pod has yet to save."""
    cache = Cache()
    cache.children(KEY).upsert_job("tune-new-a0", _job("new"))
    cache.children(KEY).upsert_pod("tune-old-a0-0-x", _pod("old", uid="another"))

    assert [node.state for node in asyncio.run(_observe(cache)).nodes] == ["waiting"]


def test_a_pod_of_a_job_that_was_made_again_by_hand_is_not_the_attempts() -> None:
    cache = Cache()
    cache.children(KEY).upsert_job("tune-a0", _job("new"))
    cache.children(KEY).upsert_pod("tune-a0-0-x", _pod("old"))

    assert [node.state for node in asyncio.run(_observe(cache)).nodes] == ["waiting"]


def test_a_job_of_a_resource_that_had_the_name_before_is_not_the_attempts() -> None:
    cache = Cache()
    cache.children(KEY).upsert_job("tune-a0", _job("old", owner="another"))
    assert not asyncio.run(_has_started(cache))

    cache.children(KEY).upsert_job("tune-a0", _job("new", version="3"))
    assert asyncio.run(_has_started(cache))


def test_the_last_pod_of_a_job_counts_when_the_job_is_deleted() -> None:
    cache = Cache()
    cache.children(KEY).upsert_pod("tune-a0-0-old", _pod("old"))

    seen = asyncio.run(_observe(cache))
    assert [node.state for node in seen.nodes] == ["ended"]
    assert seen.closed


def test_an_attempt_goes_on_as_long_as_a_pod_runs_whose_job_is_deleted() -> None:
    """It was deleted by hand, and its pods save; or they were orphaned."""
    known = (cache := Cache()).children(KEY)
    known.upsert_job("tune-a0", _job("j"))
    known.upsert_pod("tune-a0-0-x", _pod("j", running=True))
    known.delete_job("tune-a0", "j")

    assert [node.state for node in asyncio.run(_observe(cache)).nodes] == ["running"]


@pytest.mark.parametrize("version", ["this", "an earlier one"])
def test_an_attempt_is_what_its_job_says_whatever_version_made_it(version: str) -> None:
    made, cache = tuned(topology={"nodes": 2}), Cache()
    job = deepcopy(made.job)
    hosts = [line.split()[0] for line in made.shared[2]["data"]["hostfile"].splitlines()]
    digest = job["metadata"]["annotations"]["zerotune.dev/config-digest"]
    if version == "an earlier one":  # Its names had no hash, and it wrote no digest down.
        job["metadata"]["name"], digest = "tune-a0", "of the status"
        job["spec"]["template"]["spec"]["subdomain"] = "ftj-tune"
        del job["metadata"]["annotations"]
        hosts = [f"tune-a0-{index}.ftj-tune.default.svc" for index in (0, 1)]
    job["metadata"] |= {"uid": "j", "resourceVersion": "1", "creationTimestamp": NOW.isoformat()}
    cache.children(KEY).upsert_job(job["metadata"]["name"], trim_job(job))

    async def attempt_ref() -> AttemptRef:
        return KubernetesBackend(fine_tune_job(), _cluster(cache)).attempt_ref(0, "of the status")

    port = trainer(made.job)["ports"][0]["containerPort"]
    assert asyncio.run(attempt_ref()) == AttemptRef(
        0, tuple(hosts), UID, digest, port, fine_tune_job().spec.output.uri or ""
    )


def test_hosts_are_those_that_the_status_records_when_the_job_is_deleted() -> None:
    """A spec may have been edited since, and an operator of another version named them otherwise."""
    recorded = ["tune-a0-0.ftj-tune.default.svc", "tune-a0-1.ftj-tune.default.svc"]

    async def hosts() -> tuple[str, ...]:
        return KubernetesBackend(fine_tune_job(), _cluster(Cache())).attempt_ref(0, "d", recorded).hosts

    assert asyncio.run(hosts()) == tuple(recorded)


def test_what_arrives_about_a_resource_after_its_end_is_not_kept() -> None:
    cache = Cache()
    cache.children(KEY).upsert_pod("tune-a0-0-old", _pod("old"))

    asyncio.run(_reconcile(cache))

    assert cache.children(KEY).pods == {}


async def _observe(cache: Cache) -> Observation:
    backend = KubernetesBackend(fine_tune_job(), _cluster(cache))
    return await backend.observe(backend.attempt_ref(0, ""))


async def _has_started(cache: Cache) -> bool:
    return await KubernetesBackend(fine_tune_job(), _cluster(cache)).has_started(0)


async def _reconcile(cache: Cache) -> None:
    assert await Reconciler(_cluster(cache), 10).reconcile(KEY) is None


def _cluster(cache: Cache) -> Cluster:
    """One whose API server is never asked."""
    client = ClusterClient(Connection(Configuration()))
    clock = NOW + timedelta(seconds=AGE)
    return Cluster(cache, client, WarningEvents(client), Launchers(), INSTALLATION, lambda: clock)


def _job(uid: str, owner: str = UID, version: str = "2") -> dict[str, Any]:
    metadata = {
        "name": "tune-a0",
        "uid": uid,
        "resourceVersion": version,
        "creationTimestamp": NOW.isoformat(),
        "labels": labels(fine_tune_job(), "trainer", 0),
        "ownerReferences": [{"uid": owner}],
    }
    return {"metadata": metadata, "spec": {}, "status": {}}


def _pod(job_uid: str, *, uid: str = UID, running: bool = False) -> dict[str, Any]:
    ended = {"terminated": {"exitCode": 143, "reason": "Error", "finishedAt": NOW.isoformat()}}
    state = {"running": {"startedAt": NOW.isoformat()}} if running else ended
    return {
        "metadata": {
            "name": "tune-a0-0-x",
            "uid": "p",
            "resourceVersion": "1",
            "labels": labels(fine_tune_job(), "trainer", 0) | {"zerotune.dev/job-uid": uid},
            "annotations": {"batch.kubernetes.io/job-completion-index": "0"},
            "ownerReferences": [{"kind": "Job", "name": "tune-a0", "uid": job_uid}],
        },
        "spec": {"containers": [{"name": "trainer", "image": "i"}]},
        "status": {
            "phase": "Running" if running else "Failed",
            "containerStatuses": [{"name": "trainer", "state": state}],
        },
    }
