"""A clock that jumps, here or at the API server, neither fails nor deletes a job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from tests.unit.kubernetes.rendering import INSTALLATION, fine_tune_job
from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.clock import ClusterClock
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.connection import Connection
from zerotune_operator.backends.kubernetes.events import WarningEvents
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_operator.controller.reconcile import Reconciler

pytestmark = pytest.mark.anyio
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = Key("FineTuneJob", "default", "tune")


class Times:
    """The clocks of a stand-in for the API server, and of the operator's machine since its boot."""

    def __init__(self) -> None:
        self.server, self.since_boot = NOON, 5000.0
        self.deleted: list[str] = []

    def pass_by(self, seconds: float) -> None:
        """Let time go by everywhere."""
        self.server, self.since_boot = self.server + timedelta(seconds=seconds), self.since_boot + seconds

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "DELETE":
            self.deleted.append(request.path)
        return web.json_response({}, headers={"Date": format_datetime(self.server, usegmt=True)})


@asynccontextmanager
async def clock_of(times: Times) -> AsyncIterator[tuple[ClusterClock, ClusterClient]]:
    """A clock that has started, and its API server."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", times.answer)
    async with TestServer(app) as server:
        connection = Connection(Configuration(host=str(server.make_url("")).rstrip("/")))
        client = ClusterClient(connection)
        clock = ClusterClock(client, lambda: times.since_boot)
        await clock.start()
        yield clock, client
        await connection.aclose()


async def test_the_clock_of_the_operators_machine_may_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    times = Times()
    async with clock_of(times) as (clock, _):
        monkeypatch.setattr("time.time", lambda: 4e9)
        times.pass_by(90)
        assert clock() == NOON + timedelta(seconds=90)


async def test_of_two_observations_of_the_time_the_earlier_one_counts() -> None:
    times = Times()
    async with clock_of(times) as (clock, _):
        times.server += HOUR
        await clock.confirm()
        assert clock() == NOON  # The API server's clock has jumped ahead.
        times.server = NOON - HOUR
        await clock.confirm()
        assert clock() == NOON - HOUR  # It had been ahead at the start.


def _finished_at(when: datetime, run_policy: dict[str, Any]) -> dict[str, Any]:
    job = fine_tune_job(runPolicy=run_policy).model_dump(mode="json", by_alias=True, exclude_unset=True)
    metadata = job["metadata"] | {"namespace": KEY.namespace, "resourceVersion": "1"}
    return job | {"metadata": metadata, "status": {"phase": "Succeeded", "completionTime": when.isoformat()}}


@asynccontextmanager
async def reconciling(times: Times, resource: dict[str, Any], default: int | None = None) -> AsyncIterator[Reconciler]:
    """A reconciler that started while the API server's clock was an hour ahead."""
    times.server += HOUR
    async with clock_of(times) as (clock, client):
        times.server -= HOUR
        cache, launchers = Cache(), Launchers()
        cache.upsert_resource(KEY, resource)
        installation = Installation(
            INSTALLATION.trainer_image, pod_policy=INSTALLATION.pod_policy, ttl_seconds_after_finished=default
        )
        cluster = Cluster(cache, client, WarningEvents(client), launchers, installation, clock, clock.confirm)
        yield Reconciler(cluster, 10)
        await launchers.close()


@pytest.mark.parametrize(
    ("of_the_job", "of_the_chart"), [({"ttlSecondsAfterFinished": 600}, None), ({}, 600)], ids=["job's", "chart's"]
)
async def test_a_finished_job_is_deleted_after_its_ttl_whatever_clocks_jumped(
    of_the_job: dict[str, Any], of_the_chart: int | None
) -> None:
    times = Times()
    async with reconciling(times, _finished_at(NOON, of_the_job), of_the_chart) as reconciler:
        times.pass_by(60)
        assert await reconciler.reconcile(KEY) == 540
        assert times.deleted == []
        times.pass_by(540)
        await reconciler.reconcile(KEY)
        assert times.deleted == ["/apis/zerotune.dev/v1alpha1/namespaces/default/finetunejobs/tune"]


async def test_a_ttl_of_the_job_counts_before_that_of_the_chart() -> None:
    times = Times()
    resource = _finished_at(NOON, {"ttlSecondsAfterFinished": 4000})
    async with reconciling(times, resource, default=0) as reconciler:
        assert await reconciler.reconcile(KEY) == 400  # Its clock is an hour ahead: it is asked about then.
        assert times.deleted == []
