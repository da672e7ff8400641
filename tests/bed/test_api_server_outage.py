"""The API server is stopped or out of reach for a while in the middle of a job: the operator goes on by itself."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.operator.lives import Stage, expect_a_good_end, stage
from zerotune_devtools.bed.bed import Bed
from zerotune_devtools.harness.api_server import ApiServer, until
from zerotune_devtools.harness.deadly_proxy import Never

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
OUTAGE_SECONDS = 8
"""Shorter than a leader tries to renew its Lease."""


def test_an_operator_goes_on_after_its_connections_were_cut(kubeconfig: Path, tmp_path: Path) -> None:
    async def cut(there: Stage) -> None:
        await there.proxy.interrupt(OUTAGE_SECONDS)

    asyncio.run(_live_through(kubeconfig, tmp_path, cut))


def test_an_operator_goes_on_after_the_api_server_was_killed(kubeconfig: Path, tmp_path: Path) -> None:
    if kubeconfig != Bed().folders.kubeconfig:
        pytest.skip("the API server of a cluster that is not the test bed is left alone")

    async def kill_server(there: Stage) -> None:
        """The bed starts it again."""
        os.kill(Bed().pid_of("kube-apiserver"), signal.SIGKILL)
        await until(lambda: _answers(there.cluster), "the API server is back")

    asyncio.run(_live_through(kubeconfig, tmp_path, kill_server))


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


async def _answers(cluster: ApiServer) -> bool:
    try:
        return bool(await cluster.get("/readyz"))
    except (aiohttp.ClientError, LookupError, OSError):
        return False
