"""What others do to the objects of a job: a queue takes pods back, a webhook puts a sidecar in, somebody suspends the
Job or deletes what pods need.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest

from tests.e2e import stand_in
from tests.operator.lives import KINDS, Stage, on_stage
from zerotune_devtools.harness.api_server import Object, RejectedError, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


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
        await until(lambda: _has_pods(there, 0), "its pod is deleted")
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


def test_a_job_suspended_by_hand_runs_no_two_attempts_at_once(kubeconfig: Path, tmp_path: Path) -> None:
    """Its pod has still to save when it is suspended; and who suspended it lets it go on later."""

    async def act(there: Stage) -> None:
        job = _that_saves(seconds=8)
        there.start_operator()
        await there.cluster.create(there.job_path, job)
        await until(lambda: there.is_in("Running"), "the job runs")
        first = await there.attempt(0)
        running = asyncio.create_task(_most_at_once(there))
        await _suspend(there, True)
        await until(lambda: _is_deleted(there, "Job", first), "the suspended Job is deleted")
        with pytest.raises(RejectedError):
            await there.cluster.patch(f"{KINDS['Job'].format(there.namespace)}/{first}", {"spec": {"suspend": False}})
        await until(lambda: _runs(there, 1), "the next attempt runs", 90)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert MOST[there.namespace] == 1
        await there.end(1, stand_in.completion)
        await until(lambda: there.is_in("Succeeded"), "the job has succeeded")
        attempts = (await there.job())["status"]["attempts"]
        assert [(each["number"], each["outcome"]) for each in attempts] == [(0, "Stopped"), (1, "Succeeded")]

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


def test_a_job_deleted_by_hand_is_waited_for_until_its_pod_has_saved(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        there.start_operator()
        await there.cluster.create(there.job_path, _that_saves(seconds=8))
        await until(lambda: there.is_in("Running"), "the job runs")
        running = asyncio.create_task(_most_at_once(there))
        jobs = KINDS["Job"].format(there.namespace)
        await there.cluster.ask(
            "DELETE", f"{jobs}/{await there.attempt(0)}", {"propagationPolicy": "Background", "kind": "DeleteOptions"}
        )
        await until(lambda: _runs(there, 1), "the next attempt runs", 90)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert MOST[there.namespace] == 1

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


def test_what_pods_need_is_made_again_where_it_is_deleted(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        job = deepcopy(stand_in.job(inspected=False))
        job["spec"]["backend"]["kubernetes"]["pod"]["spec"]["schedulingGates"] = [{"name": "zerotune.dev/held"}]
        there.start_operator()
        await there.cluster.create(there.job_path, job)
        await until(lambda: there.is_in("Planned"), "the job waits")
        made = {}
        for kind in ("ConfigMap", "Service", "NetworkPolicy"):
            [found] = await there.belongings(kind)
            made[f"{KINDS[kind].format(there.namespace)}/{found['metadata']['name']}"] = found
        [secret] = await there.belongings("Secret")
        for path in made:
            await there.cluster.delete(path)
        # It belongs to the ConfigMap: the garbage collector deletes both.
        await until(lambda: _is_secret_deleted(there, secret), "the Secret is deleted with its ConfigMap")
        for path, before in made.items():
            again = await until(partial(_new, there, path, before), f"{path} is made again", 120)
            assert again.get("data") == before.get("data")
        [pod] = await there.belongings("Pod")
        ungated = [{"op": "remove", "path": "/spec/schedulingGates"}]
        pod_path = f"{KINDS['Pod'].format(there.namespace)}/{pod['metadata']['name']}"
        await there.cluster.ask("PATCH", pod_path, ungated, "application/json-patch+json")
        await until(lambda: there.is_in("Running"), "the job runs")

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


def test_without_the_webhook_the_status_reports_what_planning_finds(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        job = deepcopy(stand_in.job(inspected=False))
        job["spec"]["training"]["globalBatchSize"] = 3
        job["spec"]["topology"]["nodes"] = 2
        there.start_operator()
        await there.cluster.create(there.job_path, job)
        await until(lambda: there.is_in("Failed"), "the job is rejected")
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


def _that_saves(seconds: int) -> Object:
    """A job whose pods take so long to end when they are asked to."""
    job = deepcopy(stand_in.job(inspected=False))
    container = job["spec"]["backend"]["kubernetes"]["pod"]["spec"]["containers"][0]
    program = container["command"][4]
    slow = program.replace(
        "lambda *_: os._exit(143)", f"lambda *_: threading.Timer({seconds}, os._exit, [143]).start()"
    )
    assert slow != program
    container["command"][4] = slow
    return job


MOST: dict[str, int] = {}
"""How many pods of a namespace were seen to run at once."""


async def _most_at_once(there: Stage) -> None:
    while True:
        pods = await there.belongings("Pod")
        states = [each["state"] for pod in pods for each in pod["status"].get("containerStatuses", ())]
        MOST[there.namespace] = max(MOST.get(there.namespace, 0), sum("running" in state for state in states))
        await asyncio.sleep(0.2)


async def _runs(there: Stage, attempt: int) -> bool:
    status = (await there.job())["status"]
    return bool(status["phase"] == "Running" and status["attempts"][-1]["number"] == attempt)


async def _is_deleted(there: Stage, kind: str, name: str) -> bool:
    return name not in [each["metadata"]["name"] for each in await there.belongings(kind)]


async def _is_secret_deleted(there: Stage, secret: Object) -> bool:
    return secret["metadata"]["uid"] not in [each["metadata"]["uid"] for each in await there.belongings("Secret")]


async def _new(there: Stage, path: str, before: Object) -> Object | None:
    """The object at a path, where it is another than before."""
    try:
        found = await there.cluster.get(path)
    except RejectedError:
        return None
    return found if found["metadata"]["uid"] != before["metadata"]["uid"] else None


async def _suspend(there: Stage, suspend: bool) -> None:
    """Do what a queue does."""
    path = f"{KINDS['Job'].format(there.namespace)}/{await there.attempt(0)}"
    await there.cluster.patch(path, {"spec": {"suspend": suspend}})
