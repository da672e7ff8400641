"""The store keeps the newest version of everything, whatever order the news comes in."""

from typing import Any

from zerotune_operator.store import Key, Store

KEY = Key("FineTuneJob", "default", "cpt")


def version(number: int, uid: str = "u", **more: Any) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "resourceVersion": str(number)}, **more}


def test_an_older_version_does_not_replace_a_newer_one() -> None:
    store = Store()
    store.keep_resource(KEY, version(10, status="written by us"))
    store.keep_resource(KEY, version(9, status="told late by the watch"))

    assert store.resource(KEY) == version(10, status="written by us")


def test_another_object_of_the_same_name_replaces_the_old_one_whatever_its_version() -> None:
    store = Store()
    store.keep_resource(KEY, version(10, uid="old"))
    store.keep_resource(KEY, version(9, uid="new"))

    assert store.resource(KEY) == version(9, uid="new")


def test_what_belongs_to_a_resource_is_forgotten_with_it() -> None:
    store = Store()
    store.keep_resource(KEY, version(1))
    store.children(KEY).keep_job("cpt-a0", version(2))
    store.children(KEY).keep_pod("cpt-a0-0-x", version(3))

    store.keep_resource(KEY, None)

    assert store.resource(KEY) is None
    assert (store.children(KEY).jobs, store.children(KEY).pods) == ({}, {})


def test_jobs_and_pods_come_change_and_go() -> None:
    store = Store()
    store.children(KEY).keep_job("cpt-a0", version(2))
    store.children(KEY).keep_job("cpt-a0", version(4, status="newer"))
    store.children(KEY).keep_pod("p", version(3))
    store.children(KEY).keep_pod("p", None)
    store.children(KEY).keep_pod("never seen", None)

    assert store.children(KEY).jobs == {"cpt-a0": version(4, status="newer")}
    assert store.children(KEY).pods == {}


def test_what_was_last_seen_of_a_pod_is_kept_until_its_job_is_gone() -> None:
    known = Store().children(KEY)
    owner = {"kind": "Job", "name": "cpt-a0"}
    pod = {"metadata": {"uid": "p", "resourceVersion": "3", "ownerReferences": [owner]}, "status": "evicted"}
    known.keep_job("cpt-a0", version(2))
    known.keep_pod("cpt-a0-0-x", pod)
    known.keep_job("cpt-a1", version(5, uid="other"))

    known.drop_job("cpt-a1")
    assert known.pods == {"cpt-a0-0-x": pod}
    known.drop_job("cpt-a0")
    assert (known.jobs, known.pods) == ({}, {})
