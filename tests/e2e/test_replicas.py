"""A replica of an InferenceJob that loses its pod: the job goes on, and what is lost comes back alone."""

from __future__ import annotations

import pytest

from zerotune_devtools.harness.jobs import FOLDER, inference_job, one_rank
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.harness.volume import Volume

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

_COMMON: Object = {
    "data": {"uris": [f"{FOLDER}/data/cpt-train.jsonl"], "columns": {"prompt": "text"}, "overflow": "truncate"},
    "generation": {"maxNewTokens": 48, "doSample": True, "seed": 3, "skipSpecialTokens": False},
    "outputFormat": {"rowsPerFile": 1},
    "perDeviceBatchSize": 1,
}


@pytest.fixture(scope="module")
def disturbed(namespace: Namespace, volume: Volume) -> Object:
    """Status of a job of two replicas, one of which was killed in the middle of its work."""
    namespace.apply(inference_job("replicas", topology=one_rank() | {"replicas": 2}, **_COMMON))
    namespace.step("ij/replicas", 4)
    [pod] = namespace.list("pods", _node_of("replicas", 1))
    # Every process of the container: as when the kernel or a node takes it away.
    namespace.kubectl("exec", pod["metadata"]["name"], "--", "sh", "-c", _KILL)
    return namespace.phase("ij/replicas", "Succeeded", 600)


_KILL = "(sleep 0.5; kill -9 -1) < /dev/null > /dev/null 2>&1 &"
"""A moment later: the command itself, and with it `kubectl exec`, must have ended by then."""


def test_a_lost_replica_does_not_end_the_attempt(disturbed: Object, namespace: Namespace) -> None:
    [attempt] = disturbed["attempts"]
    assert (attempt["outcome"], attempt["replicaRestarts"], disturbed["restarts"]) == ("Succeeded", 1, 0)
    assert attempt["replicaFailure"].startswith("replica 1: ")
    assert (disturbed["plan"]["replicas"], disturbed["plan"]["worldSize"]) == (2, 2)
    assert ("Warning", "ReplicaRestarting") in namespace.events("replicas")
    assert "Restarting" not in [reason for _, reason in namespace.events("replicas")]


def test_the_output_is_that_of_one_replica(disturbed: Object, namespace: Namespace, volume: Volume) -> None:
    namespace.apply(inference_job("alone", topology=one_rank(), **_COMMON))
    namespace.phase("ij/alone", "Succeeded", 600)
    assert disturbed["progress"]["step"] == disturbed["progress"]["total"]
    assert _checksums(volume, "replicas") == _checksums(volume, "alone")


def test_replicas_are_changed_while_the_job_is_suspended(namespace: Namespace, volume: Volume) -> None:
    namespace.apply(inference_job("changed", topology=one_rank() | {"replicas": 2}, **_COMMON))
    namespace.step("ij/changed", 3)
    for replicas in (1, 3):
        namespace.patch("ij/changed", {"spec": {"runPolicy": {"suspend": True}}})
        namespace.phase("ij/changed", "Suspended")
        change = {"topology": {"replicas": replicas}, "runPolicy": {"suspend": False}}
        namespace.patch("ij/changed", {"spec": change})
        namespace.until("ij/changed", lambda job, wanted=replicas: job["status"]["plan"]["replicas"] == wanted)
        namespace.step("ij/changed", 4)
    done = namespace.phase("ij/changed", "Succeeded", 600)
    assert done["progress"]["step"] == done["progress"]["total"]
    assert _checksums(volume, "changed") == _checksums(volume, "alone")


def test_a_lost_node_takes_its_own_replica_along_and_no_other(namespace: Namespace, volume: Volume) -> None:
    """Two replicas, each one model on the ranks of two nodes."""
    gangs = one_rank() | {"nodes": 2, "replicas": 2}
    namespace.apply(inference_job("gangs", topology=gangs, engine="zero", **_COMMON))
    namespace.step("ij/gangs", 4)
    [pod] = namespace.list("pods", _node_of("gangs", 3))
    others = [namespace.list("pods", _node_of("gangs", index))[0]["metadata"]["uid"] for index in (0, 1)]
    namespace.kubectl("exec", pod["metadata"]["name"], "--", "sh", "-c", _KILL)
    namespace.until("ij/gangs", lambda job: job["status"]["attempts"][-1].get("replicaRestarts", 0) == 1)
    done = namespace.phase("ij/gangs", "Succeeded", 600)
    [attempt] = done["attempts"]
    assert (attempt["replicaRestarts"], done["restarts"], done["plan"]["worldSize"]) == (1, 0, 4)
    assert attempt["replicaFailure"].startswith("replica 1: ")
    left = [pod["metadata"]["uid"] for index in (0, 1) for pod in namespace.list("pods", _node_of("gangs", index))]
    assert left == others
    assert _checksums(volume, "gangs") == _checksums(volume, "alone")


def _node_of(name: str, index: int) -> str:
    return f"zerotune.dev/job-name={name},batch.kubernetes.io/job-completion-index={index}"


def _checksums(volume: Volume, name: str) -> str:
    return volume.run(f"cd /cwe/output/{name} && sha256sum part-*")
