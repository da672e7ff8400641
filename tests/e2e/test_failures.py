"""Ranks that are killed, stopped, out of memory, or given bad data: the status names what, where and what to do."""

from __future__ import annotations

import re

import pytest

from zerotune_devtools.harness.jobs import FOLDER, SAVE_STEPS, fine_tune_job, one_rank, two_by_two
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.harness.volume import BAD_RECORD, Volume

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
_HANG_SECONDS = 10
_SIGNAL = """
import json, os, signal, urllib.request
with urllib.request.urlopen("http://localhost:9400/progress") as answer:
    ranks = json.load(answer)["ranks"]
os.kill(next(each["pid"] for each in ranks if each["rank"] == {rank}), signal.{signal})
"""
_ALL = "import os, signal; os.kill(-1, signal.{signal})"
"""But the first process of the pod, and the one that says so."""


@pytest.fixture(scope="module")
def beaten(namespace: Namespace, volume: Volume) -> list[Object]:
    """Status of a job after its rank 3 was killed, and after its rank 1 was stopped then."""
    policy = {"maxRestarts": 1, "hangTimeoutSeconds": _HANG_SECONDS}
    training = {"globalBatchSize": 4, "maxSteps": 1000, "learningRate": 1e-3}
    namespace.apply(fine_tune_job("beaten", runPolicy=policy, training=training))
    namespace.step("ftj/beaten", SAVE_STEPS + 2)
    _signal(namespace, attempt=0, rank=3, signal="SIGKILL")
    restarting = namespace.phase("ftj/beaten", "Restarting")
    namespace.until("ftj/beaten", _resumed)
    _signal(namespace, attempt=1, rank=1, signal="SIGSTOP")
    return [restarting, namespace.phase("ftj/beaten", "Failed")]


def test_a_killed_rank_is_named_and_the_job_restarts_from_its_checkpoint(
    beaten: list[Object], namespace: Namespace
) -> None:
    cause = beaten[0]["rootCause"]
    assert (cause["class"], cause["rank"], cause["exitCode"]) == ("Killed", 3, 137)
    _expect_place(cause, f"{namespace.attempt('beaten')}-1", namespace)
    assert "SIGKILL" in cause["message"]
    assert beaten[0]["restarts"] == 1
    resumed = beaten[1]["attempts"][1]["firstStep"]
    assert resumed >= SAVE_STEPS
    assert resumed % SAVE_STEPS == 0


def test_a_stopped_rank_is_a_hang_that_names_it(beaten: list[Object], namespace: Namespace) -> None:
    cause = beaten[1]["rootCause"]
    assert (cause["class"], cause["rank"], cause["exitCode"]) == ("Hang", 1, 72)
    _expect_place(cause, f"{namespace.attempt('beaten', 1)}-0", namespace)
    assert [attempt["failureClass"] for attempt in beaten[1]["attempts"]] == ["Killed", "Hang"]


def test_a_job_that_has_used_up_its_restarts_leaves_no_pod_running(beaten: list[Object], namespace: Namespace) -> None:
    def ended(_: Object) -> bool:
        pods = namespace.list("pods", "zerotune.dev/job-name=beaten")
        return {pod["status"]["phase"] for pod in pods} <= {"Failed", "Succeeded"}

    namespace.until("ftj/beaten", ended, seconds=60)


def test_a_host_that_stands_still_is_a_lost_peer_of_the_others(namespace: Namespace, volume: Volume) -> None:
    """All of a pod is stopped, its launcher too: nobody there can say what is wrong."""
    policy = {"maxRestarts": 0, "hangTimeoutSeconds": _HANG_SECONDS}
    training = {"globalBatchSize": 4, "maxSteps": 1000, "learningRate": 1e-3}
    namespace.apply(fine_tune_job("frozen", runPolicy=policy, training=training))
    namespace.step("ftj/frozen", 2)
    pod = _pod(namespace, "frozen", attempt=0, index=1)
    namespace.python(pod, _ALL.format(signal="SIGSTOP"))
    cause = namespace.until("ftj/frozen", lambda job: "rootCause" in job["status"])["status"]["rootCause"]
    assert (cause["class"], cause["exitCode"]) == ("PeerLost", 69)
    assert cause["rank"] in (0, 1)
    _expect_place(cause, f"{namespace.attempt('frozen')}-0", namespace)
    assert f"the launcher of {namespace.attempt('frozen')}-1." in cause["message"]
    namespace.python(pod, _ALL.format(signal="SIGCONT"))  # Else it would have all the time that a checkpoint may take.
    namespace.phase("ftj/frozen", "Failed")


@pytest.mark.parametrize(("name", "memory"), [("hungry-start", "150Mi"), ("hungry", "450Mi")])
def test_a_container_that_reaches_its_memory_limit_is_reported_as_such(
    name: str, memory: str, namespace: Namespace, volume: Volume
) -> None:
    """While a node imports torch, and while it trains."""
    limit = {"name": "trainer", "resources": {"limits": {"memory": memory}, "requests": {"memory": memory}}}
    small = {"kubernetes": {"pod": {"spec": {"containers": [limit]}}}}
    namespace.apply(fine_tune_job(name, backend=small, topology=one_rank(), runPolicy={"maxRestarts": 0}))
    cause = namespace.phase(f"ftj/{name}", "Failed")["rootCause"]
    assert (cause["class"], cause.get("rank", 0)) == ("OutOfMemory", 0)
    _expect_place(cause, f"{namespace.attempt(name)}-0", namespace)
    assert "topology.memory" in cause["hint"]


def test_bad_data_fails_at_once_and_names_the_line(namespace: Namespace, volume: Volume) -> None:
    data = {"train": {"uris": [f"{FOLDER}/data/bad.jsonl"]}, "columns": {"text": "text"}, "maxLength": 64}
    namespace.apply(fine_tune_job("bad-data", data=data, topology=two_by_two()))
    status = namespace.phase("ftj/bad-data", "Failed")
    cause = status["rootCause"]
    assert (cause["class"], cause["exitCode"]) == ("Data", 65)
    assert cause["rank"] in range(4)
    _expect_place(cause, f"{namespace.attempt('bad-data')}-{cause['rank'] // 2}", namespace)
    assert re.search(rf"data/bad\.jsonl:{BAD_RECORD}\b", cause["message"])
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Failed"]
    assert status["restarts"] == 0
    assert ("Warning", "Failed") in namespace.events("bad-data")


def test_a_job_whose_model_comes_from_a_failed_job_fails_and_says_why(namespace: Namespace) -> None:
    missing = fine_tune_job("no-model", model={"uri": f"{FOLDER}/no-such-model"}, topology=one_rank())
    namespace.apply(missing, fine_tune_job("follower", model={"fromFineTuneJob": "no-model"}))
    first = namespace.phase("ftj/no-model", "Failed")
    assert (first["rootCause"]["class"], first.get("attempts", [])) == ("InputMissing", [])
    cause = namespace.phase("ftj/follower", "Failed")["rootCause"]
    assert "FineTuneJob" in cause["message"]
    assert "no-model" in cause["message"]
    assert first["rootCause"]["message"] in cause["message"]


def _expect_place(cause: Object, host: str, namespace: Namespace) -> None:
    """A root cause says in which pod, on which node, and what to do."""
    assert cause["host"].startswith(f"{host}.")
    assert cause["pod"].startswith(f"{host}-")
    assert cause["node"] in [node["metadata"]["name"] for node in namespace.list("nodes")]
    assert cause["message"]
    assert cause["hint"]


def _signal(namespace: Namespace, *, attempt: int, rank: int, signal: str) -> None:
    pod = _pod(namespace, "beaten", attempt=attempt, index=rank // 2)
    namespace.python(pod, _SIGNAL.format(rank=rank, signal=signal))


def _pod(namespace: Namespace, job: str, *, attempt: int, index: int) -> str:
    at = f"batch.kubernetes.io/job-completion-index={index}"
    [pod] = namespace.list("pods", f"zerotune.dev/job-name={job},zerotune.dev/attempt={attempt},{at}")
    return str(pod["metadata"]["name"])


def _resumed(job: Object) -> bool:
    newest = job["status"]["attempts"][-1]
    assert job["status"]["phase"] != "Failed"
    return newest["number"] == 1 and newest.get("lastStep", 0) > newest.get("firstStep", 0)
