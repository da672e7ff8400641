"""What pods of jobs may be is decided by the operator's policy alone, whatever the namespace enforces."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.operator.hostile_jobs import RIGHTS, hostile_jobs
from tests.operator.lives import KINDS, RESTRICTED, Stage, on_stage
from tests.operator.tenant import Tenant, tenant
from zerotune_devtools.harness.api_server import Object, until
from zerotune_operator.backends.kubernetes.pod_policy import PodPolicy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
STRICT = PodPolicy(images=("zerotune.dev/*",))
"""The chart's default, but for the image of the stand-in."""
GENEROUS = PodPolicy(
    secrets=("other*",),
    service_accounts=("admin",),
    service_account_token=True,
    images=("zerotune.dev/*", "evil.example/*"),
    priority_classes=("system-node-critical",),
    node_names=("node-*",),
    volume_types=(*STRICT.volume_types, "hostPath"),
    host_namespaces=("hostNetwork", "hostPID"),
    run_as_root=True,
    privileged=True,
)
"""All that RIGHTS ask for."""


@pytest.mark.parametrize("labels", [{}, RESTRICTED], ids=["no-pod-security", "restricted"])
def test_a_tenant_of_our_kinds_gets_nothing_that_the_policy_withholds(
    labels: Mapping[str, str], kubeconfig: Path, tmp_path: Path
) -> None:
    async def act(there: Stage) -> None:
        async with tenant(kubeconfig, there, labels) as mallory:
            there.start_operator(others=[mallory.namespace], policy=STRICT)
            assert await mallory.denied() == KINDS.keys()
            accepted, rejected = await mallory.apply(_asking())
            causes = await until(lambda: mallory.causes(accepted), "every job says why it does not run")
            assert not rejected
            assert all("podPolicy." in cause for cause in causes.values()), causes
            assert not await mallory.started()

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


def test_a_tenant_gets_whatever_the_policy_allows(kubeconfig: Path, tmp_path: Path) -> None:
    async def act(there: Stage) -> None:
        async with tenant(kubeconfig, there) as mallory:
            there.start_operator(others=[mallory.namespace], policy=GENEROUS)
            await mallory.apply(_asking())
            await until(lambda: _has_started(mallory), "every job has its Job")

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


def _asking() -> dict[str, Object]:
    """A job for each of RIGHTS."""
    return {name: job for name, job in hostile_jobs().items() if name in RIGHTS}


async def _has_started(mallory: Tenant) -> bool:
    return await mallory.started() == RIGHTS.keys()
