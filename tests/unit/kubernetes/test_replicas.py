"""Replicas of a job on a cluster: one Job, of which a gang of pods comes back alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.kubernetes.recordings import attempt_of, view_of
from tests.unit.kubernetes.rendering import attempt_of as rendered
from tests.unit.kubernetes.rendering import inference_job
from zerotune_operator.backends.kubernetes.observe import ClusterView, observe
from zerotune_operator.backends.kubernetes.pod_state import trim_pod
from zerotune_operator.lifecycle.observation import Observation
from zerotune_trainer.hostfile import Hostfile

GIVEN = {"topology": {"replicas": 3, "nodes": 2, "processesPerNode": 2}, "runPolicy": {"maxRestarts": 4}}


def seen(view: ClusterView) -> Observation:
    return observe(replace(attempt_of(view), replicas=2), view)


def ended(name: str, exit_code: int, **annotations: str) -> ClusterView:
    """Two replicas of a pod each that run, the second of which then ends."""
    view = view_of("running")
    assert view.job is not None
    pods = [dict(pod) for pod in view.pods]
    metadata = pods[1]["metadata"]
    state = {"terminated": {"exitCode": exit_code, "reason": "Error", "finishedAt": "2026-11-25T13:35:57Z"}}
    pods[1] = pods[1] | {
        "metadata": metadata | {"name": name, "annotations": metadata["annotations"] | annotations},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "trainer", "state": state}]},
    }
    return replace(view, pods=(pods[0], trim_pod(pods[1])))


def test_replicas_are_pods_of_one_job_that_come_back() -> None:
    made = rendered(inference_job(**GIVEN), "s3://mmm/m")
    spec = made.job["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimitPerIndex"]) == (6, 6, 4)
    assert spec["podReplacementPolicy"] == "Failed"
    ignored, final = spec["podFailurePolicy"]["rules"]
    assert (ignored["action"], ignored["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert final["action"] == "FailJob"
    assert final["onExitCodes"] == {"containerName": "trainer", "operator": "In", "values": [64, 65, 66, 67, 77]}
    files = made.shared[2]["data"]
    assert json.loads(files["config.json"])["launch"]["replicas"] == 3
    hosts = Hostfile.parse(files["hostfile"])
    assert hosts.world_size == 12
    second = hosts.of_replica(1, 3)
    assert [host.name.split(".")[0][-2:] for host in second.hosts] == ["-2", "-3"]
    assert (second.world_size, second.hosts[0].first_rank) == (4, 0)


def test_a_job_of_one_replica_restarts_as_a_whole() -> None:
    spec = rendered(inference_job(topology={"nodes": 2}), "s3://mmm/m").job["spec"]
    assert (spec["backoffLimitPerIndex"], "podFailurePolicy" in spec) == (0, False)


def test_a_change_of_the_replicas_does_not_change_the_result() -> None:
    def digest(count: int) -> Any:
        made = rendered(inference_job(topology={"replicas": count}), "s3://mmm/m")
        return made.job["metadata"]["annotations"]["zerotune.dev/config-digest"]

    assert digest(1) == digest(3)


def test_a_pod_that_failed_waits_for_the_one_in_its_place() -> None:
    view = ended("lost", 137, **{"batch.kubernetes.io/job-index-failure-count": "1"})
    first, second = seen(view).nodes
    assert (first.state, first.restarts, second.state, second.restarts) == ("running", 0, "waiting", 2)
    assert second.lost is not None
    assert second.lost.exit_code == -9


@pytest.mark.parametrize("exit_code", [64, 65, 66, 67, 77])
def test_a_failure_that_no_start_mends_is_an_end(exit_code: int) -> None:
    assert [node.state for node in seen(ended("failed", exit_code)).nodes] == ["running", "ended"]


def test_an_index_that_has_come_back_often_enough_is_an_end() -> None:
    view = ended("failed", 71)
    assert view.job is not None
    job = view.job | {"status": view.job["status"] | {"failedIndexes": "1"}}
    assert [node.state for node in seen(replace(view, job=job)).nodes] == ["running", "ended"]


def test_a_stopped_job_gets_no_pod_back() -> None:
    view = ended("failed", 71)
    assert view.job is not None
    job = view.job | {"spec": view.job["spec"] | {"activeDeadlineSeconds": 1}}
    assert [node.state for node in seen(replace(view, job=job)).nodes] == ["running", "ended"]
