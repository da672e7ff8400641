"""A tenant who may do anything with our kinds, and nothing else, harms nobody and gets nothing more."""

from __future__ import annotations

import asyncio
import re
import time
from copy import deepcopy
from pathlib import Path

import pytest

from tests.e2e import stand_in
from tests.operator.hostile_jobs import RIGHTS, hostile_jobs
from tests.operator.lives import KINDS, Stage, on_stage
from tests.operator.tenant import PLURALS, Tenant, tenant
from zerotune_devtools.harness.api_server import until
from zerotune_devtools.harness.host_operator import HostOperator
from zerotune_operator.backends.kubernetes.pod_policy import PodPolicy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
OF_STAND_INS = PodPolicy(images=("zerotune.dev/*",))
"""The chart's default, but for the image of the stand-in."""
PROMISED_SECONDS = 30
"""In which an honest job has its pods, on a machine that other tests fill."""
HOSTILE_STATUS = {"phase": "Running", "attempts": [{"number": 10**9, "outcome": "Failed"}], "message": "\u202e" * 9}


def test_hostile_jobs_stop_nobody_and_each_says_why_it_does_not_run(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        async with tenant(kubeconfig, there) as mallory:
            operator = there.start_operator(others=[mallory.namespace], policy=OF_STAND_INS)
            await until(lambda: operator.answers("/readyz"), "the operator is ready")
            await _strangers(there)
            first, (accepted, rejected) = await asyncio.gather(_honest(there, 1), _attack(mallory))
            begun = [first, *[await _honest(there, number) for number in (2, 3)]]
            causes = await until(lambda: mallory.causes(accepted), "every hostile job says why")
            assert max(begun) < PROMISED_SECONDS, begun
            assert len(accepted) + len(rejected) >= 40
            assert not RIGHTS.keys() & await mallory.started()
            for name in RIGHTS.keys() & causes.keys():
                assert "podPolicy." in causes[name], (name, causes[name])
            assert await _kinds(operator) <= PLURALS.keys()
            assert there.operators == [operator]
            assert operator.is_alive()

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


async def _attack(mallory: Tenant) -> tuple[dict[str, str], dict[str, str]]:
    """Apply every hostile job, and write a status."""
    accepted, rejected = await mallory.apply(hostile_jobs())
    await mallory.api.patch(f"{accepted['labels-of-ours']}/status", {"status": HOSTILE_STATUS})
    return accepted, rejected


async def _honest(there: Stage, number: int) -> float:
    """Seconds until a job of another tenant has its Job."""
    job = deepcopy(stand_in.job(inspected=False))
    job["metadata"]["name"] = f"honest-{number}"
    since = time.monotonic()
    await there.cluster.create(there.job_path, job)
    await until(lambda: _has_job(there, f"honest-{number}"), f"honest-{number} begins")
    return time.monotonic() - since


async def _has_job(there: Stage, name: str) -> bool:
    jobs = await there.belongings("Job", f"?labelSelector=zerotune.dev/job-name={name}")
    return len(jobs) == 1


async def _strangers(there: Stage) -> None:
    """Jobs with our labels, of kinds that are none."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "trainer", "image": stand_in.IMAGE}]}
    for number in range(20):
        labels = {"zerotune.dev/job-name": "x", "zerotune.dev/job-kind": f"Kind{number}"}
        template = {"metadata": {"labels": labels}, "spec": pod | {"schedulingGates": [{"name": "zerotune.dev/held"}]}}
        job = {"metadata": {"name": f"x{number}", "labels": labels}, "spec": {"template": template}}
        await there.cluster.create(KINDS["Job"].format(there.namespace), job)


async def _kinds(operator: HostOperator) -> set[str]:
    """The kinds in the operator's metrics."""
    return set(re.findall(r'kind="([^"]*)"', await operator.answers("/metrics") or ""))
