"""How jobs begin: many at once, one not reported yet, under the name of another, with a pod that is misspelt."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from tests.e2e import stand_in
from tests.operator.lives import KINDS, Stage, hash_of, on_stage
from zerotune_devtools.harness.api_server import Object, until
from zerotune_devtools.harness.deadly_proxy import Write

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
MANY = 80
"""More than the operator works on at a time."""


def test_of_many_jobs_every_one_begins_once_and_is_reported(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        operator = there.start_operator()
        await until(lambda: operator.answers("/readyz"), "the operator is ready")
        await asyncio.gather(*(there.cluster.create(there.job_path, _nowhere(f"job-{n}")) for n in range(MANY)))
        await until(lambda: _all_wait(there), "every status says what the job waits for", 90)
        made = await there.cluster.items(KINDS["Job"].format(there.namespace))
        assert Counter(job["metadata"]["labels"]["zerotune.dev/job-name"] for job in made) == {
            f"job-{n}": 1 for n in range(MANY)
        }
        events = await there.cluster.items(f"/api/v1/namespaces/{there.namespace}/events")
        reported = Counter((each["involvedObject"]["name"], each["reason"]) for each in events)
        for number in range(MANY):
            assert reported[f"job-{number}", "Planned"] == reported[f"job-{number}", "Unschedulable"] == 1

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


def test_a_job_that_is_suspended_before_its_begin_was_reported_is_stopped(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        first = there.start_operator()
        await there.cluster.create(there.job_path, stand_in.job(inspected=False))
        await until(lambda: _is_dead(first.is_alive), "the operator died")
        assert "attempts" not in (await there.job()).get("status", {})
        await there.cluster.patch(f"{there.job_path}/{stand_in.NAME}", {"spec": {"runPolicy": {"suspend": True}}})
        there.start_operator("another-lease")
        await until(lambda: there.is_in("Suspended"), "the job is suspended")
        [attempt] = (await there.job())["status"]["attempts"]
        assert "endTime" in attempt
        pods = await there.cluster.items(KINDS["Pod"].format(there.namespace))
        assert [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")] == []

    asyncio.run(on_stage(kubeconfig, tmp_path, act, _after_the_job))


def test_a_job_under_the_name_of_one_that_goes_begins_anew(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        there.start_operator()
        await there.begin()
        before = (await there.job())["metadata"]["uid"]
        await there.cluster.delete(f"{there.job_path}/{stand_in.NAME}")
        await there.begin()  # While the first one's Job and pod are still there.
        job = await there.job()
        assert job["metadata"]["uid"] != before
        assert [attempt["number"] for attempt in job["status"]["attempts"]] == [0]
        made = await there.cluster.items(KINDS["Job"].format(there.namespace))
        owners = [owner["uid"] for each in made for owner in each["metadata"]["ownerReferences"]]
        assert [uid for uid in owners if uid != before] == [job["metadata"]["uid"]], (
            "the first one's may be there still"
        )

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


def test_an_object_of_our_name_that_is_anothers_is_left_alone(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        uid = (await there.cluster.create(there.job_path, stand_in.job(inspected=False)))["metadata"]["uid"]
        configs, name = KINDS["ConfigMap"].format(there.namespace), f"{stand_in.NAME}-{hash_of(uid)}-a0"
        theirs = await there.cluster.create(configs, {"metadata": {"name": name}, "data": {"precious": "settings"}})
        there.start_operator()
        await until(lambda: there.is_in("Pending"), "the job waits")
        cause = (await there.job())["status"]["rootCause"]
        assert cause["class"] == "Temporary"
        assert f"the ConfigMap {name} is there already, and is not this job's" in cause["message"]
        assert await there.cluster.get(f"{configs}/{name}") == theirs
        await there.cluster.delete(f"{configs}/{name}")
        await until(lambda: there.is_in("Running"), "the job runs")

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


def test_a_misspelt_field_of_the_pod_is_named(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        job = deepcopy(stand_in.job(inspected=False))
        job["spec"]["backend"]["kubernetes"]["pod"]["spec"]["nodeSelectr"] = {"gpu": "h100"}
        await there.cluster.create(there.job_path, job)
        there.start_operator()
        await until(lambda: there.is_in("Failed"), "the job is rejected")
        cause = (await there.job())["status"]["rootCause"]
        assert cause["class"] == "Configuration"
        assert "backend.kubernetes.pod.spec.nodeSelectr" in cause["message"]
        assert "did you mean nodeSelector?" in f"{cause['message']} {cause['hint']}"

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


def _after_the_job(write: Write) -> bool:
    method, path, _ = write.identity
    return method == "POST" and path.endswith("/jobs")


def _nowhere(name: str) -> Object:
    """A job whose pods no node takes."""
    job = deepcopy(stand_in.job(inspected=False))
    job["metadata"]["name"] = name
    job["spec"]["output"]["uri"] = f"s3://models/{name}"
    job["spec"]["backend"]["kubernetes"]["pod"]["spec"]["nodeSelector"] = {"zerotune.dev/no-such": "node"}
    return job


async def _all_wait(there: Stage) -> bool:
    statuses = [job.get("status", {}) for job in await there.cluster.items(there.job_path)]
    return all(status.get("rootCause", {}).get("class") == "Unschedulable" for status in statuses)


async def _is_dead(is_alive: Callable[[], bool]) -> bool:
    return not is_alive()
