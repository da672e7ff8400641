"""The API server is out of reach for a while in the middle of a job: the operator goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from api_server import ApiServer
from deadly_proxy import Never
from host_operator import prepare_cluster
from lives import Stage, expect_a_good_end, stage

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
OUTAGE_SECONDS = 8
"""Shorter than a leader tries to renew its Lease."""


@pytest.fixture(scope="module")
def kubeconfig() -> Path:
    """Of a cluster that has images and kinds."""
    return prepare_cluster()


def test_an_operator_goes_on_after_its_connections_were_cut(kubeconfig: Path, tmp_path: Path) -> None:
    async def cut(there: Stage) -> None:
        await there.proxy.interrupt(OUTAGE_SECONDS)

    asyncio.run(_live_through(kubeconfig, tmp_path, cut))


async def _live_through(kubeconfig: Path, folder: Path, outage: Callable[[Stage], Awaitable[None]]) -> None:
    """A life with an outage in each attempt."""
    async with ApiServer(kubeconfig) as cluster, stage(cluster, folder, Never()) as there:
        operator = there.start_operator()
        await there.begin()
        await outage(there)
        await there.end_first()
        await outage(there)
        await there.end_second()
        expect_a_good_end(await there.seen())
        assert operator.is_alive()
        await there.delete()
