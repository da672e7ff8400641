"""What others do to the pods of a job: a queue takes them back and lets them go on, a webhook puts a sidecar in."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from pathlib import Path

import pytest

from tests.e2e import stand_in
from tests.e2e.lives import KINDS, Stage, on_stage
from zerotune_devtools.harness.api_server import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
FIRST = f"{stand_in.NAME}-a0"


def test_a_job_that_its_queue_takes_back_goes_on_in_the_same_attempt(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        job = deepcopy(stand_in.job(inspected=False))
        job["spec"]["runPolicy"]["queue"] = "team"
        there.start_operator()
        await there.cluster.create(there.job_path, job)
        await until(lambda: there.is_in("Queued"), "the job is queued")
        await _suspend(there, False)
        await until(lambda: there.is_in("Running"), "the job runs")
        await _suspend(there, True)
        await until(lambda: there.is_in("Queued"), "the job is queued again")
        await until(lambda: _has_pods(there, 0), "its pod is gone")
        # The next pod may be a while in coming: until then there is only what is known of the one before.
        quota = {"metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}}}
        quotas = f"/api/v1/namespaces/{there.namespace}/resourcequotas"
        await there.cluster.create(quotas, quota)
        await _suspend(there, False)
        await until(lambda: _waits_for(there, "QuotaExceeded"), "the job waits for its pod")
        await there.cluster.delete(f"{quotas}/full")
        await until(lambda: there.is_in("Running"), "the job runs again", 90)
        await there.end(0, stand_in.completion)
        await until(lambda: there.is_in("Succeeded"), "the job has succeeded")
        status = (await there.job())["status"]
        assert [(each["number"], each["outcome"]) for each in status["attempts"]] == [(0, "Succeeded")]
        assert status.get("restarts", 0) == 0

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


def test_a_sidecar_that_does_not_end_holds_no_node_after_the_job(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        job = deepcopy(stand_in.job(inspected=False))
        program = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); time.sleep(900)"
        sidecar = {
            "name": "agent",
            "image": stand_in.IMAGE,
            "command": ["python3", "-c", program],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        job["spec"]["backend"]["kubernetes"]["pod"]["spec"]["containers"].append(sidecar)
        there.start_operator()
        await there.cluster.create(there.job_path, job)
        await until(lambda: there.is_in("Running"), "the job runs")
        await there.end(0, stand_in.completion)
        await until(lambda: there.is_in("Succeeded"), "the job has succeeded")
        await until(lambda: _has_pods(there, 0), "no pod runs")
        assert await there.is_in("Succeeded")

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


def test_without_the_webhook_the_status_tells_what_planning_finds(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        job = deepcopy(stand_in.job(inspected=False))
        job["spec"]["training"]["globalBatchSize"] = 3
        job["spec"]["topology"]["nodes"] = 2
        there.start_operator()
        await there.cluster.create(there.job_path, job)
        await until(lambda: there.is_in("Failed"), "the job is refused")
        status = (await there.job())["status"]
        cause = status["rootCause"]
        assert (cause["class"], status.get("attempts", [])) == ("Configuration", [])
        assert "training.globalBatchSize 3 is not micro batch x accumulation" in cause["message"]
        assert cause["hint"]

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


async def _waits_for(there: Stage, failure_class: str) -> bool:
    status = (await there.job())["status"]
    assert status["phase"] in ("Queued", "Planned", "Running"), status
    return bool(status.get("rootCause", {}).get("class") == failure_class)


async def _has_pods(there: Stage, number: int) -> bool:
    """Whether so many pods run, or will."""
    pods = await there.cluster.items(KINDS["Pod"].format(there.namespace))
    return len([pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]) == number


async def _suspend(there: Stage, suspend: bool) -> None:
    """Do what a queue does."""
    path = f"{KINDS['Job'].format(there.namespace)}/{FIRST}"
    await there.cluster.patch(path, {"spec": {"suspend": suspend}})
