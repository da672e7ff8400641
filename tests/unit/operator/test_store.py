"""The store keeps the newest version of everything, whatever order the news comes in."""

from typing import Any

from zerotune_operator.backends.kubernetes.cache import Key, Store

KEY = Key("FineTuneJob", "default", "cpt")


def version(number: int, uid: str = "u", **more: Any) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "resourceVersion": str(number)}, "spec": {}, "status": {}, **more}


def test_an_older_version_does_not_replace_a_newer_one() -> None:
    store = Store()
    store.keep_resource(KEY, version(10, status="written by us"))
    store.keep_resource(KEY, version(9, status="told late by the watch"))

    assert store.resource(KEY) == version(10, status="written by us")


def test_what_is_heard_late_of_an_object_that_had_the_name_before_replaces_nothing() -> None:
    store = Store()
    store.keep_resource(KEY, version(8, uid="old"))
    store.keep_resource(KEY, version(10, uid="new"))
    store.keep_resource(KEY, version(9, uid="old", deleted=True))

    assert store.resource(KEY) == version(10, uid="new")


def test_what_belongs_to_a_resource_is_forgotten_with_it() -> None:
    store = Store()
    store.keep_resource(KEY, version(1))
    store.children(KEY).keep_job("cpt-a0", version(2))
    store.children(KEY).keep_pod("cpt-a0-0-x", version(3))

    store.drop_resource(KEY)

    assert store.resource(KEY) is None
    assert (store.children(KEY).jobs, store.children(KEY).pods) == ({}, {})


def test_jobs_and_pods_come_change_and_go() -> None:
    store = Store()
    store.children(KEY).keep_job("cpt-a0", version(2))
    store.children(KEY).keep_job("cpt-a0", version(4, status={"completedIndexes": "0"}))
    store.children(KEY).keep_pod("p", pod_at(3))
    store.children(KEY).drop_pod("p", "another that had its name")
    store.children(KEY).drop_pod("never seen", "p")
    assert store.children(KEY).pods == {"p": pod_at(3)}
    store.children(KEY).drop_pod("p", "p")

    assert store.children(KEY).jobs == {"cpt-a0": version(4, status={"completedIndexes": "0"})}
    assert store.children(KEY).pods == {}


def test_what_was_last_seen_of_a_pod_is_kept_until_its_job_is_gone() -> None:
    known = Store().children(KEY)
    owner = {"kind": "Job", "name": "cpt-a0"}
    pod = {
        "metadata": {"uid": "p", "resourceVersion": "3", "ownerReferences": [owner]},
        "status": {"phase": "Failed", "reason": "Evicted"},
    }
    known.keep_job("cpt-a0", version(2))
    known.keep_pod("cpt-a0-0-x", pod)
    known.keep_job("cpt-a1", version(5, uid="other"))

    known.drop_pod("cpt-a0-0-x", "p")
    known.drop_job("cpt-a1", "other")
    known.drop_job("cpt-a0", "another that had its name")
    assert known.pods == {"cpt-a0-0-x": pod}
    known.drop_job("cpt-a0", "u")
    assert (known.jobs, known.pods) == ({}, {})


def pod_at(number: int, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "uid": "p", "resourceVersion": str(number)}, "spec": {}, "status": status}


def running(number: int) -> dict[str, Any]:
    return pod_at(number, phase="Running", containerStatuses=[{"name": "trainer", "state": {"running": {}}}])


def test_only_what_a_pod_tells_is_news() -> None:
    known = Store().children(KEY)
    placed = [{"type": "PodScheduled", "status": "True"}]
    creating = [{"name": "trainer", "state": {"waiting": {"reason": "ContainerCreating"}}}]
    short = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]

    assert not known.keep_pod("p", pod_at(1, phase="Pending"))
    assert known.keep_pod("p", pod_at(2, phase="Pending", conditions=short))
    assert known.keep_pod("p", pod_at(3, phase="Pending", conditions=placed))
    assert not known.keep_pod("p", pod_at(4, phase="Pending", conditions=placed, containerStatuses=creating))
    assert known.keep_pod("p", running(5))
    assert not known.keep_pod("p", running(6))
    assert not known.keep_pod("p", pod_at(5, phase="Failed")), "told late"
    assert known.keep_pod("p", pod_at(7, phase="Succeeded"))


def test_only_what_a_job_tells_is_news() -> None:
    known = Store().children(KEY)

    assert known.keep_job("cpt-a0", version(1))
    assert not known.keep_job("cpt-a0", version(2, status={"active": 2, "ready": 0}))
    assert known.keep_job("cpt-a0", version(3, status={"failedIndexes": "1"}))


def test_what_the_operator_wrote_itself_is_no_news_and_nobody_keeps_who_manages_which_field() -> None:
    store = Store()
    answer = version(8)
    answer["metadata"]["managedFields"] = [{}]

    assert store.keep_resource(KEY, version(7))
    assert store.keep_resource(KEY, answer)
    assert not store.keep_resource(KEY, version(8))
    assert store.resource(KEY) == version(8)
