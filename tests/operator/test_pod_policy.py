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
            accepted, _ = await mallory.apply(_asking())
            causes = await until(lambda: _causes(mallory, accepted), "every job has its Job, or says why not")
            # What contradicts itself, such as a privileged container that may not escalate, the API server rejects.
            assert not any("podPolicy." in cause for cause in causes.values()), causes
            assert await mallory.started() >= RIGHTS.keys() - {"privileged"}, causes

    asyncio.run(on_stage(kubeconfig, tmp_path, act))


def _asking() -> dict[str, Object]:
    """A job for each of RIGHTS."""
    return {name: job for name, job in hostile_jobs().items() if name in RIGHTS}


async def _causes(mallory: Tenant, accepted: Mapping[str, str]) -> dict[str, str] | None:
    """Why those that have no Job have none, with one line of those that have."""
    started = await mallory.started()
    found = await mallory.causes({name: path for name, path in accepted.items() if name not in started})
    return None if found is None else found | {"started": ", ".join(sorted(started))}
