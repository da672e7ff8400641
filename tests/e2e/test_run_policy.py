"""Suspend and resume, deadline, time to live."""

from __future__ import annotations

import pytest

from zerotune_devtools.harness.jobs import FOLDER, SAVE_STEPS, STEPS, fine_tune_job, one_rank
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.harness.volume import Volume

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
SLOW = {"name": "slow"}


@pytest.fixture(scope="module")
def stopped(namespace: Namespace, volume: Volume) -> list[Object]:
    """Status of a job once it is suspended, and at its end."""
    namespace.apply(fine_tune_job("stopped"))
    namespace.step("ftj/stopped", SAVE_STEPS // 2)
    namespace.patch("ftj/stopped", {"spec": {"runPolicy": {"suspend": True}}})
    suspended = namespace.phase("ftj/stopped", "Suspended")
    namespace.kubectl("wait", "ftj/stopped", "--for=condition=Suspended", "--timeout=10s")
    namespace.until("ftj/stopped", lambda _: not _running(namespace, "stopped"), seconds=30)
    namespace.patch("ftj/stopped", {"spec": {"runPolicy": {"suspend": False}}})
    return [suspended, namespace.phase("ftj/stopped", "Succeeded")]


def test_a_suspended_job_keeps_the_steps_it_made(stopped: list[Object]) -> None:
    suspended, ended = stopped
    [attempt] = suspended["attempts"]
    assert attempt["outcome"] == "Stopped"
    assert 0 < attempt["lastStep"] < STEPS
    assert "rootCause" not in suspended
    assert ended["attempts"][1]["firstStep"] >= attempt["lastStep"] > 0
    assert (ended["attempts"][1]["lastStep"], ended["restarts"]) == (STEPS, 0)


def test_conditions_hold_for_the_newest_generation(stopped: list[Object], namespace: Namespace) -> None:
    """`kubectl wait` takes no other."""
    namespace.patch("ftj/stopped", {"spec": {"runPolicy": {"maxRestarts": 9}}})
    namespace.kubectl("wait", "ftj/stopped", "--for=condition=Succeeded", "--timeout=30s")


def test_conditions_of_a_resumed_job_say_that_it_is_not_suspended(stopped: list[Object]) -> None:
    for status, holds in zip(stopped, ("True", "False"), strict=True):
        assert {each["type"]: each["status"] for each in status["conditions"]}["Suspended"] == holds


def test_a_job_is_stopped_while_its_launcher_is_yet_to_listen(namespace: Namespace, volume: Volume) -> None:
    # The kernel drops a signal to the first process of a container as long as that one has not asked for it.
    program = "import sys, time\nif any('zerotune-launch' in each for each in sys.orig_argv): time.sleep(900)\n"
    namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": SLOW, "data": {"sitecustomize.py": program}})
    pod = {
        "containers": [
            {
                "name": "trainer",
                "env": [{"name": "PYTHONPATH", "value": "/slow"}],
                "volumeMounts": [{"name": "slow", "mountPath": "/slow"}],
            }
        ],
        "volumes": [{"name": "slow", "configMap": SLOW}],
    }
    backend = {"kubernetes": {"pod": {"spec": pod}}}
    namespace.apply(fine_tune_job("starting", topology=one_rank(), backend=backend))
    namespace.phase("ftj/starting", "Running", seconds=60)
    namespace.patch("ftj/starting", {"spec": {"runPolicy": {"suspend": True}}})
    namespace.phase("ftj/starting", "Suspended", seconds=30)


def test_a_job_that_is_made_suspended_has_no_pods_until_it_is_resumed(namespace: Namespace) -> None:
    namespace.apply(fine_tune_job("later", runPolicy={"suspend": True}))
    namespace.phase("ftj/later", "Suspended")
    assert namespace.list("jobs,pods", "zerotune.dev/job-name=later") == []
    namespace.kubectl("delete", "ftj/later")


def test_a_job_fails_at_its_deadline(namespace: Namespace, volume: Volume) -> None:
    training = {"globalBatchSize": 1, "maxSteps": 100000}
    policy = {"activeDeadlineSeconds": 8}
    namespace.apply(fine_tune_job("late", training=training, topology=one_rank(), runPolicy=policy))
    status = namespace.phase("ftj/late", "Failed")
    assert status["rootCause"]["class"] == "DeadlineExceeded"
    assert "activeDeadlineSeconds (8)" in status["rootCause"]["message"]
    namespace.until("ftj/late", lambda _: not _running(namespace, "late"), seconds=30)


def test_a_finished_job_goes_when_its_time_is_over(namespace: Namespace) -> None:
    model = {"uri": f"{FOLDER}/no-such-model"}
    policy = {"ttlSecondsAfterFinished": 6}
    namespace.apply(fine_tune_job("short-lived", model=model, topology=one_rank(), runPolicy=policy))
    namespace.phase("ftj/short-lived", "Failed")
    namespace.until("ftj/short-lived", lambda job: not job, seconds=30)


def _running(namespace: Namespace, name: str) -> list[str]:
    pods = namespace.list("pods", f"zerotune.dev/job-name={name}")
    return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]
