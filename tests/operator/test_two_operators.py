"""Two operators with one Lease: one works, the other stands by, and takes over in the middle of a job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.e2e import stand_in
from tests.operator.lives import expect_a_good_end, stage
from zerotune_devtools.harness.api_server import ApiServer, until
from zerotune_devtools.harness.deadly_proxy import Never
from zerotune_devtools.harness.host_operator import HostOperator

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_a_leader_that_is_asked_to_stop_is_followed_at_once(kubeconfig: Path, tmp_path: Path) -> None:
    async def stop(leader: HostOperator) -> None:
        assert await leader.stop() == 0

    # It gives its Lease back, and the other one asks every 5 s.
    assert asyncio.run(_seconds_without_a_leader(kubeconfig, tmp_path, stop)) < 10


def test_a_leader_that_is_killed_is_followed_when_its_lease_has_run_out(kubeconfig: Path, tmp_path: Path) -> None:
    async def kill(leader: HostOperator) -> None:
        leader.kill()

    seconds = asyncio.run(_seconds_without_a_leader(kubeconfig, tmp_path, kill))
    # The Lease holds for 20 s; renewed up to 5 s ago, read every 5 s.
    assert 10 < seconds < 30


def test_a_leader_whose_requests_hang_has_given_up_when_another_leads(kubeconfig: Path, tmp_path: Path) -> None:
    async def act() -> None:
        async with ApiServer(kubeconfig) as cluster, stage(cluster, tmp_path, Never()) as there:
            first = there.start_operator()
            await until(lambda: _leads(first), "the first operator leads")
            second = HostOperator.start(tmp_path, there.namespace, kubeconfig)
            there.operators.append(second)
            await until(lambda: second.answers("/readyz"), "the second operator stands by")
            there.proxy.hold()
            await until(lambda: _leads(second), "the second operator leads")
            assert "leads no more" in (tmp_path / f"{there.namespace}.log").read_text()
            assert await first.exit_code(10) == 1

    asyncio.run(act())


def test_a_leader_whose_lease_another_has_writes_nothing_more(kubeconfig: Path, tmp_path: Path) -> None:
    """kopf takes its time to end: what changes meanwhile is for the other one."""

    async def act() -> None:
        async with ApiServer(kubeconfig) as cluster, stage(cluster, tmp_path, Never()) as there:
            first = there.start_operator()
            await until(lambda: _leads(first), "the operator leads")
            leases = f"/apis/coordination.k8s.io/v1/namespaces/{there.namespace}/leases"
            await cluster.patch(f"{leases}/zerotune-operator", {"spec": {"holderIdentity": "another"}})
            log = tmp_path / f"{there.namespace}.log"
            await until(lambda: _has(log, "held by another"), "the lease is lost", 10)
            writes = there.proxy.writes
            for number in range(20):
                job = stand_in.job(inspected=False)
                job["metadata"]["name"] = f"late-{number}"
                await cluster.create(there.job_path, job)
            assert await first.exit_code(30) == 1
            assert there.proxy.writes == writes
            assert not await cluster.items(f"/apis/batch/v1/namespaces/{there.namespace}/jobs")

    asyncio.run(act())


async def _has(log: Path, text: str) -> bool:
    return text in log.read_text()


async def _seconds_without_a_leader(
    kubeconfig: Path, folder: Path, end: Callable[[HostOperator], Awaitable[None]]
) -> float:
    """A job's life in which the leader ends while the first attempt runs."""
    async with ApiServer(kubeconfig) as cluster, stage(cluster, folder, Never()) as there:
        first = there.start_operator()
        await until(lambda: _leads(first), "the first operator leads")
        second = there.start_operator()
        await until(lambda: second.answers("/readyz"), "the second operator stands by")
        await there.begin()
        assert await _leads(first)
        assert not await _leads(second)
        writes = there.proxy.writes
        ended = time.monotonic()
        await end(first)
        await until(lambda: _leads(second), "the second operator leads")
        seconds = time.monotonic() - ended
        await until(lambda: second.answers("/readyz"), "the second operator is ready")
        assert there.proxy.writes == writes
        await there.end_first()
        await there.end_second()
        expect_a_good_end(await there.seen())
        await there.delete()
        return seconds


async def _leads(operator: HostOperator) -> bool:
    return await operator.figure("zerotune_leader") == 1
