"""The operator runs a job on SageMaker, from its creation to the deletion of its resource."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from tests.unit.sagemaker.account import UNTIL_STOPPED, Account
from tests.unit.sagemaker.jobs import MODELS, SETTINGS, sagemaker_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import parse_job
from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.connection import Connection
from zerotune_operator.backends.kubernetes.events import WarningEvents
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_operator.backends.sagemaker import on_cluster
from zerotune_operator.backends.sagemaker.client import SageMakerClient
from zerotune_operator.backends.sagemaker.layout import job_name
from zerotune_operator.backends.sagemaker.settings import SageMakerSettings
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_operator.controller.finalizers import FINALIZER
from zerotune_operator.controller.reconcile import Reconciler
from zerotune_trainer.errors import TemporaryError

KEY = Key("FineTuneJob", "default", "tune")
JOB = sagemaker_job()


class ApiServer:
    """An API server that has one resource, and what the operator's watch knows of it."""

    def __init__(self, job: Job = JOB) -> None:
        given = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
        stored = {"resourceVersion": "1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
        metadata = given["metadata"] | stored | {"namespace": "default"}
        self.resource: dict[str, Any] = given | {"metadata": metadata}
        self.cache, self.key = Cache(), Key(job.kind, "default", "tune")
        self.events: list[str] = []
        """The reasons of all Events, in order."""
        self.deleted = 0
        """How often the resource was deleted."""
        self._report()

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "POST" and request.path.endswith("/events"):
            self.events.append((await request.json())["reason"])
        self.deleted += request.method == "DELETE"
        if request.method != "PATCH" or "zerotune.dev" not in request.path:
            return web.json_response({})
        patch = await request.json()
        if patch["metadata"].get("resourceVersion") != self.resource["metadata"]["resourceVersion"]:
            return web.json_response({"reason": "Conflict", "message": "it has changed"}, status=409)
        self.change(patch)
        return web.json_response(self.resource)

    def change(self, patch: dict[str, Any]) -> None:
        """Merge a patch into the resource; the watch reports it."""
        version = int(self.resource["metadata"]["resourceVersion"]) + 1
        self.resource = _merged(self.resource, patch)
        self.resource["metadata"]["resourceVersion"] = str(version)
        self._report()

    @property
    def phase(self) -> str | None:
        phase: str | None = self.resource.get("status", {}).get("phase")
        return phase

    def _report(self) -> None:
        self.cache.upsert_resource(self.key, copy.deepcopy(self.resource))


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


@asynccontextmanager
async def reconciling(
    api: ApiServer, settings: SageMakerSettings = SETTINGS, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> AsyncIterator[Reconciler]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    async with (
        TestServer(app) as server,
        aclosing(Connection(Configuration(host=str(server.make_url("")).rstrip("/")))) as connection,
    ):
        client, launchers = ClusterClient(connection), Launchers()
        installation = Installation("trainer", sagemaker=settings)
        cluster = Cluster(api.cache, client, WarningEvents(client), launchers, installation, clock)
        yield Reconciler(cluster, 0.1)
        await launchers.close()


async def reconcile_until(reconciler: Reconciler, reached: Callable[[], bool], key: Key = KEY) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        try:
            await reconciler.reconcile(key)
        except TemporaryError:
            continue
        await asyncio.sleep(0.05)


@pytest.fixture
def model(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's configuration on S3, and an operator that describes training jobs as often as it likes."""
    bucket = boto3.resource("s3").Bucket("models")
    bucket.create()
    bucket.upload_file(str(MODELS / "tiny-llama.json"), "m/config.json")
    known = TrainingJobs(SageMakerClient(), max_age=0.0)
    monkeypatch.setattr(on_cluster, "_training_jobs", lambda _: known)


@pytest.mark.slow
@pytest.mark.usefixtures("model")
def test_a_job_runs_to_its_end_and_then_nothing_holds_its_resource(account: Account) -> None:
    api = ApiServer()

    async def run() -> None:
        await account.leave_result(JOB)
        async with reconciling(api) as reconciler:
            await reconcile_until(reconciler, lambda: api.phase == "Succeeded")
            assert api.resource["metadata"]["finalizers"] == [FINALIZER]
            await reconciler.reconcile(api.key)

    asyncio.run(run())
    assert account.stand_in.created == [job_name(JOB, 0)]
    assert api.resource["status"]["output"]["uri"] == "s3://results/r"
    assert api.resource["metadata"]["finalizers"] == []
    assert not account.stand_in.calls["StopTrainingJob"]


@pytest.mark.slow
@pytest.mark.usefixtures("model")
def test_deleting_a_job_that_runs_stops_its_training_job_first(account: Account) -> None:
    api = ApiServer()
    account.stand_in.command = UNTIL_STOPPED

    async def run() -> None:
        async with reconciling(api) as reconciler:
            await reconcile_until(reconciler, lambda: bool(account.stand_in.created))
            account.fail("StopTrainingJob", "ThrottlingException")
            api.change({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
            await reconcile_until(reconciler, lambda: not api.resource["metadata"]["finalizers"])

    asyncio.run(run())
    assert account.stand_in.calls["StopTrainingJob"] == 2
    assert account.stand_in.jobs[job_name(JOB, 0)].status in ("Stopping", "Stopped")


@pytest.mark.slow
@pytest.mark.usefixtures("model")
def test_a_job_of_a_namespace_that_may_not_use_sagemaker_fails_before_any_call(account: Account) -> None:
    api = ApiServer()

    async def run() -> None:
        async with reconciling(api, SETTINGS.model_copy(update={"namespaces": ("team-*",)})) as reconciler:
            await reconcile_until(reconciler, lambda: api.phase == "Failed")

    asyncio.run(run())
    assert "jobs of the namespace 'default' may not run on SageMaker" in api.resource["status"]["rootCause"]["message"]
    assert not account.stand_in.calls


@pytest.mark.slow
@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
def test_a_ttl_deletes_the_resource_and_nothing_at_aws(account: Account, kind: str) -> None:
    job = sagemaker_job(kind)
    policy = job.spec.run_policy.model_validate({"ttlSecondsAfterFinished": 3600})
    job = job.model_copy(update={"spec": job.spec.model_copy(update={"run_policy": policy})})
    api, name, jumps = ApiServer(job), job_name(job, 0), [timedelta()]

    async def run() -> None:
        await account.leave_result(job)
        async with reconciling(api, clock=lambda: datetime.now(UTC) + jumps[-1]) as reconciler:
            await reconcile_until(reconciler, lambda: api.phase == "Succeeded", api.key)
            assert 0 < (await reconciler.reconcile(api.key) or 0) <= 3600
            assert (api.deleted, api.resource["metadata"]["finalizers"]) == (0, [])
            jumps.append(timedelta(hours=1))
            await reconciler.reconcile(api.key)
            assert api.deleted == 1

    asyncio.run(run())
    ended = datetime.fromisoformat(api.resource["status"]["completionTime"])
    assert ended == datetime.fromtimestamp(account.stand_in.jobs[name].ended, UTC), "its time is that of SageMaker"
    assert account.stand_in.jobs[name].status == "Completed"
    assert not account.stand_in.calls["StopTrainingJob"] + account.stand_in.calls["DeleteTrainingJob"]
    left = {found.key for found in boto3.resource("s3").Bucket("results").objects.all()}
    assert {"r/.sagemaker/claim.json", f"r/.sagemaker/{name}/job/config.json"} <= left


def on(kind: str, backend: dict[str, Any]) -> Job:
    """A job of another backend."""
    given = sagemaker_job(kind).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return parse_job(given | {"spec": given["spec"] | {"backend": backend}})


@pytest.mark.slow
@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
@pytest.mark.parametrize("backend", [{"sagemaker": {"instanceType": "ml.m5.4xlarge"}}, {"kubernetes": {}}], ids=str)
def test_a_change_of_a_job_that_has_ended_is_reported_once(kind: str, backend: dict[str, Any]) -> None:
    api = ApiServer(on(kind, backend))

    async def run() -> None:
        async with reconciling(api) as reconciler:
            api.change({"status": {"phase": "Succeeded", "observedGeneration": 1}})
            await reconciler.reconcile(api.key)
            assert api.events == []
            api.change({"metadata": {"generation": 2}, "spec": {"runPolicy": {"suspend": True}}})
            await reconcile_until(reconciler, lambda: api.resource["status"]["observedGeneration"] == 2, api.key)
            await reconciler.reconcile(api.key)

    asyncio.run(run())
    assert api.events == ["ChangedAfterEnd"]
    assert api.phase == "Succeeded"
