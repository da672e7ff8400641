"""The chart is upgraded while a job runs: another operator takes over, and the job's pods notice nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import stand_in, stand_in_jobs
from zerotune_devtools import chart, cluster
from zerotune_devtools.checkout import CHART
from zerotune_devtools.harness.api_server import ApiServer
from zerotune_devtools.harness.installation import RELEASE, Installation, installed
from zerotune_devtools.harness.kubectl import Namespace, Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
JOB = f"ftj/{stand_in.NAME}"


@pytest.fixture
def previous(tmp_path: Path) -> Iterator[Installation]:
    """A release of the version before, with the images of this one: there are no others."""
    cluster.up_with_images()
    with installed(folder=chart.copy(tmp_path, "zerotune.dev", "0.0.9")) as made:
        yield made


def test_a_running_job_goes_on_under_the_operator_of_the_new_version(previous: Installation) -> None:
    jobs, system = previous.jobs, previous.system
    jobs.apply(stand_in_jobs.model(), stand_in_jobs.stand_in_job(stand_in.NAME))
    jobs.step(JOB, stand_in.STEP)
    [before], pods = _operators(system), _pods(jobs)

    upgrade = ["upgrade", RELEASE, CHART, "--namespace", system.name, "--reset-then-reuse-values"]
    chart.helm(*upgrade, "--force-conflicts", "--wait", "--timeout", "180s", on_cluster=True)

    [after] = _operators(system)
    assert [_chart_of(before), _chart_of(after)] == ["zerotune-0.0.9", "zerotune-0.1.0"]
    name = after["metadata"]["name"]
    system.until("lease/zerotune", lambda lease: lease["spec"].get("holderIdentity", "").startswith(name), 60)
    assert previous.metric("zerotune_leader") == 1
    asyncio.run(_end(jobs))
    status = jobs.phase(JOB, "Succeeded", 60)
    assert status["restarts"] == 0
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]
    assert _pods(jobs) == pods


def _operators(system: Namespace) -> list[Object]:
    """The operator's pods but for those that go."""
    found = system.list("pods", "app.kubernetes.io/component=operator")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def _chart_of(pod: Object) -> str:
    return str(pod["metadata"]["labels"]["helm.sh/chart"])


def _pods(jobs: Namespace) -> list[tuple[str, int]]:
    """Every pod of the job by its uid, with how often its container was started again."""
    found = jobs.list("pods", f"zerotune.dev/job-name={stand_in.NAME}")
    return sorted((pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in found)


async def _end(jobs: Namespace) -> None:
    """Let the only pod of the attempt end well."""
    attempt = jobs.attempt(stand_in.NAME)
    code, message = stand_in.completion(jobs.get(f"configmap/{attempt}")["data"]["config.json"])
    [pod] = jobs.list("pods", f"batch.kubernetes.io/job-name={attempt}")
    path = f"/api/v1/namespaces/{jobs.name}/pods/{pod['metadata']['name']}:{stand_in.PORT}/proxy/end/{code}"
    async with ApiServer(chart.kubeconfig()) as server:
        await server.create(path, json.loads(message))
