"""The cache keeps the newest version of everything, whatever order the news comes in."""

import json
import tracemalloc
from typing import Any

import pytest

from zerotune_operator.api.load import read_job
from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.controller.status_writer import read_status

KEY = Key("FineTuneJob", "default", "cpt")


def version(number: int, uid: str = "u", **more: Any) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "resourceVersion": str(number)}, "spec": {}, "status": {}, **more}


def test_an_older_version_does_not_replace_a_newer_one() -> None:
    cache = Cache()
    cache.upsert_resource(KEY, version(10, status={"by": "us"}))
    cache.upsert_resource(KEY, version(9, status={"by": "the watch"}))

    assert cache.resource(KEY) == version(10, status={"by": "us"})


def test_a_late_event_of_an_earlier_object_of_the_name_replaces_nothing() -> None:
    cache = Cache()
    cache.upsert_resource(KEY, version(8, uid="old"))
    cache.upsert_resource(KEY, version(10, uid="new"))
    cache.upsert_resource(KEY, version(9, uid="old", deleted=True))

    assert cache.resource(KEY) == version(10, uid="new")


def test_what_belongs_to_a_resource_is_forgotten_with_it() -> None:
    cache = Cache()
    cache.upsert_resource(KEY, version(1))
    cache.children(KEY).upsert_job("cpt-a0", version(2))
    cache.children(KEY).upsert_pod("cpt-a0-0-x", version(3))

    cache.delete_resource(KEY)

    assert cache.resource(KEY) is None
    assert (cache.children(KEY).jobs, cache.children(KEY).pods) == ({}, {})


def test_jobs_and_pods_come_change_and_go() -> None:
    cache = Cache()
    cache.children(KEY).upsert_job("cpt-a0", version(2))
    cache.children(KEY).upsert_job("cpt-a0", version(4, status={"completedIndexes": "0"}))
    cache.children(KEY).upsert_pod("p", pod_at(3))
    cache.children(KEY).delete_pod("p", "another that had its name")
    cache.children(KEY).delete_pod("never seen", "p")
    assert cache.children(KEY).pods == {"p": pod_at(3)}
    cache.children(KEY).delete_pod("p", "p")

    assert cache.children(KEY).jobs == {"cpt-a0": version(4, status={"completedIndexes": "0"})}
    assert cache.children(KEY).pods == {}


def test_what_was_last_seen_of_a_pod_is_kept_until_its_job_is_deleted() -> None:
    known = Cache().children(KEY)
    owner = {"kind": "Job", "name": "cpt-a0"}
    pod = {
        "metadata": {"uid": "p", "resourceVersion": "3", "ownerReferences": [owner]},
        "status": {"phase": "Failed", "reason": "Evicted"},
    }
    known.upsert_job("cpt-a0", version(2))
    known.upsert_pod("cpt-a0-0-x", pod)
    known.upsert_job("cpt-a1", version(5, uid="other"))

    known.delete_pod("cpt-a0-0-x", "p")
    known.delete_job("cpt-a1", "other")
    known.delete_job("cpt-a0", "another that had its name")
    assert known.pods == {"cpt-a0-0-x": pod}
    known.delete_job("cpt-a0", "u")
    assert (known.jobs, known.pods) == ({}, {})


def pod_at(number: int, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "uid": "p", "resourceVersion": str(number)}, "spec": {}, "status": status}


def running(number: int) -> dict[str, Any]:
    return pod_at(number, phase="Running", containerStatuses=[{"name": "trainer", "state": {"running": {}}}])


def test_only_what_a_pod_reports_is_news() -> None:
    known = Cache().children(KEY)
    placed = [{"type": "PodScheduled", "status": "True"}]
    creating = [{"name": "trainer", "state": {"waiting": {"reason": "ContainerCreating"}}}]
    short = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]

    assert not known.upsert_pod("p", pod_at(1, phase="Pending"))
    assert known.upsert_pod("p", pod_at(2, phase="Pending", conditions=short))
    assert known.upsert_pod("p", pod_at(3, phase="Pending", conditions=placed))
    assert not known.upsert_pod("p", pod_at(4, phase="Pending", conditions=placed, containerStatuses=creating))
    assert known.upsert_pod("p", running(5))
    assert not known.upsert_pod("p", running(6))
    assert not known.upsert_pod("p", pod_at(5, phase="Failed")), "reported late"
    assert known.upsert_pod("p", pod_at(7, phase="Succeeded"))


def test_only_what_a_job_reports_is_news() -> None:
    known = Cache().children(KEY)

    assert known.upsert_job("cpt-a0", version(1))
    assert not known.upsert_job("cpt-a0", version(2, status={"active": 2, "ready": 0}))
    assert known.upsert_job("cpt-a0", version(3, status={"failedIndexes": "1"}))


def test_what_the_operator_wrote_itself_is_no_news_and_nobody_keeps_who_manages_which_field() -> None:
    cache = Cache()
    answer = version(8)
    answer["metadata"]["managedFields"] = [{}]

    assert cache.upsert_resource(KEY, version(7))
    assert cache.upsert_resource(KEY, answer)
    assert not cache.upsert_resource(KEY, version(8))
    assert cache.resource(KEY) == version(8)


def test_a_finished_job_is_kept_without_its_pods_and_what_only_a_plan_reads() -> None:
    cache = Cache()
    cache.children(KEY).upsert_pod("p", pod_at(3))
    cache.upsert_resource(KEY, finished(1))
    kept = cache.resource(KEY)
    assert kept is not None
    assert cache.children(KEY).pods == {}
    assert len(json.dumps(kept)) < 4_000 < 1_000_000 < len(json.dumps(finished(1)))
    assert read_job(kept).spec.output.uri == "s3://rrr/r"
    assert read_status(kept).phase == "Succeeded"


def test_a_job_that_is_being_stopped_keeps_its_pods() -> None:
    cache = Cache()
    cache.children(KEY).upsert_pod("p", pod_at(3))
    failing = finished(1)
    failing["status"] |= {"phase": "Failed", "attempts": [{"number": 0}]}
    cache.upsert_resource(KEY, failing)
    assert cache.children(KEY).pods == {"p": pod_at(3)}


@pytest.mark.slow
def test_memory_is_that_of_active_jobs_beside_finished_ones() -> None:
    """10,000 finished jobs of two pods fit into a tenth of the chart's limit of 512 MiB; here a tenth of them."""
    tracemalloc.start()
    cache = Cache()
    for number in range(1000):
        key = KEY._replace(name=f"job-{number}")
        for pod in ("p-0", "p-1"):
            cache.children(key).upsert_pod(pod, json.loads(json.dumps(pod_at(3) | {"filler": "x" * 4000})))
        cache.upsert_resource(key, json.loads(json.dumps(finished(1, 4000))))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 12 * 2**20


def finished(number: int, size: int = 1_000_000) -> dict[str, Any]:
    """A FineTuneJob that succeeded, with `size` characters of what only a plan reads."""
    return {
        "apiVersion": "zerotune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "cpt", "uid": "u", "resourceVersion": str(number), "annotations": {"last": "x" * size}},
        "spec": {
            "method": "cpt",
            "model": {"uri": "s3://mmm/m", "chatTemplate": "x"},
            "data": {"train": {"uris": ["s3://ddd/d.jsonl"]}, "columns": {"text": "text"}},
            "output": {"uri": "s3://rrr/r"},
            "deepspeed": {"x": "x" * size},
            "backend": {"kubernetes": {"image": "i", "pod": {"x": "x" * size}}},
        },
        "status": {
            "phase": "Succeeded",
            "attempts": [{"number": 0, "endTime": "2026-01-01T00:00:00Z", "outcome": "Succeeded"}],
            "topology": [{"host": "h", "hostname": "h", "firstRank": 0, "ranks": 1, "device": "cpu"}],
        },
    }
