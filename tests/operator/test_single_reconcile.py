"""Reconciles that meet a resource which has changed, is deleted, or of which nothing more can be reported."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e import stand_in
from zerotune_devtools.harness.api_server import ApiServer, Object, until
from zerotune_operator.api.load import read_job
from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.connection import connect
from zerotune_operator.backends.kubernetes.events import WarningEvents
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.job_state import trim_job
from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_operator.backends.kubernetes.objects import labels, some
from zerotune_operator.backends.kubernetes.pod_policy import ANY_NAMES
from zerotune_operator.controller.reconcile import Reconciler

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


def _now() -> datetime:
    """The time, in the whole seconds that Kubernetes stores."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass
class Scene:
    """A namespace with a job that is to be suspended: a reconcile has one thing to write."""

    cluster: ApiServer
    namespace: str
    client: ClusterClient
    requests: list[str] = field(default_factory=list)
    """The methods of what the reconciles asked of the API server."""
    cache: Cache = field(default_factory=Cache)

    @property
    def key(self) -> Key:
        return Key("FineTuneJob", self.namespace, stand_in.NAME)

    @property
    def path(self) -> str:
        return f"/apis/zerotune.dev/v1alpha1/namespaces/{self.namespace}/finetunejobs/{stand_in.NAME}"

    async def create(self) -> Object:
        """Create the job, and have the cache know it."""
        job = deepcopy(stand_in.job(inspected=False))
        job["spec"]["runPolicy"] |= {"suspend": True}
        made = await self.cluster.create(self.path.rpartition("/")[0], job)
        self.cache.upsert_resource(self.key, made)
        return made

    async def change(self, patch: Object) -> Object:
        """Change the job behind the back of the cache."""
        return await self.cluster.patch(self.path, patch)

    async def write_status(self, status: Object) -> Object:
        """Change its status."""
        return await self.cluster.patch(f"{self.path}/status", {"status": status})

    async def reconcile(self) -> float | None:
        """A reconcile of the job."""
        launchers = Launchers()
        installation = Installation("zerotune.dev/trainer:0.1.0", "Never", pod_policy=ANY_NAMES)
        cluster = Cluster(self.cache, self.client, WarningEvents(self.client), launchers, installation, _now)
        try:
            return await Reconciler(cluster, 10).reconcile(self.key)
        finally:
            await launchers.close()

    async def phase(self) -> str | None:
        phase: str | None = (await self.cluster.get(self.path)).get("status", {}).get("phase")
        return phase


def test_what_was_changed_meanwhile_is_read_before_anything_is_reported(kubeconfig: Path) -> None:
    async def act(scene: Scene) -> None:
        await scene.create()
        await scene.change({"spec": {"runPolicy": {"maxRestarts": 5}}})
        assert await scene.reconcile() is None
        assert await scene.phase() is None
        scene.cache.upsert_resource(scene.key, await scene.cluster.get(scene.path))
        await scene.reconcile()
        assert await scene.phase() == "Suspended"

    asyncio.run(on_scene(kubeconfig, act))


def test_a_job_whose_end_was_missed_is_forgotten(kubeconfig: Path) -> None:
    async def act(scene: Scene) -> None:
        await scene.create()
        await scene.cluster.delete(scene.path)
        assert await scene.reconcile() is None
        assert scene.cache.resource(scene.key) is None

    asyncio.run(on_scene(kubeconfig, act))


@pytest.mark.parametrize("phase", ["", "Running"])
def test_a_bug_of_the_operator_is_reported_by_the_job(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    def fail(_: object) -> None:
        raise LookupError("no such thing")

    async def act(scene: Scene) -> None:
        await scene.create()
        if phase:
            attempt = {"number": 0, "startTime": "2026-11-29T12:00:00Z"}
            running = await scene.write_status({"phase": phase, "attempts": [attempt]})
            scene.cache.upsert_resource(scene.key, running)
        for _ in range(2):
            with pytest.raises(LookupError):
                await scene.reconcile()
        status = (await scene.cluster.get(scene.path))["status"]
        assert status["phase"] == (phase or "Pending")
        said = "the operator cannot reconcile the job: LookupError: no such thing"
        assert status.get("rootCause", {}).get("message") == (None if phase else said)
        events = await scene.cluster.items(f"/api/v1/namespaces/{scene.namespace}/events")
        assert [each["type"] for each in events if said in each["message"]] == ["Warning" if phase else "Normal"]

    monkeypatch.setattr("zerotune_operator.controller.accepted.read_job", fail)
    asyncio.run(on_scene(kubeconfig, act))


def test_a_status_does_not_wait_for_an_event_that_is_rejected(kubeconfig: Path) -> None:
    async def act(scene: Scene) -> None:
        events = f"/api/v1/namespaces/{scene.namespace}/events"
        async with _without_events(scene):
            await scene.create()
            await scene.reconcile()
        assert await scene.phase() == "Suspended"
        assert await scene.cluster.items(events) == []

    asyncio.run(on_scene(kubeconfig, act))


def test_a_finished_job_that_cannot_be_read_any_more_stays_as_it_is(kubeconfig: Path) -> None:
    async def act(scene: Scene) -> None:
        made = await scene.create()
        skewed = deepcopy(made) | {"status": {"phase": "Succeeded"}}
        skewed["spec"]["training"]["arguments"] = {"label_names": "of another version"}
        scene.cache.delete_resource(scene.key)
        scene.cache.upsert_resource(scene.key, skewed)
        assert await scene.reconcile() is None
        assert scene.requests == []

    asyncio.run(on_scene(kubeconfig, act))


def test_the_job_of_an_attempt_that_the_status_has_forgotten_goes(kubeconfig: Path) -> None:
    async def act(scene: Scene) -> None:
        resource = await scene.create()
        kept, forgotten = [await _job_of_attempt(scene, resource, number) for number in (1, 0)]
        ended = {"number": 16, "endTime": "2026-01-01T00:00:00Z", "outcome": "Stopped"}
        known = await scene.write_status({"phase": "Suspended", "attempts": [ended]})
        scene.cache.upsert_resource(scene.key, known)
        await scene.reconcile()
        assert "deletionTimestamp" not in (await scene.cluster.get(kept))["metadata"]
        await until(lambda: _is_deleted(scene, forgotten), "the Job is deleted")

    asyncio.run(on_scene(kubeconfig, act))


async def _job_of_attempt(scene: Scene, resource: Object, number: int) -> str:
    """Make the Job of an attempt, without pods, and have the cache know it; its path."""
    jobs, name = f"/apis/batch/v1/namespaces/{scene.namespace}/jobs", f"{stand_in.NAME}-a{number}"
    owner = some(resource, ("apiVersion", "kind")) | some(resource["metadata"], ("name", "uid"))
    pod = {"restartPolicy": "Never", "containers": [{"name": "trainer", "image": stand_in.IMAGE}]}
    body = {
        "metadata": {"name": name, "labels": labels(read_job(resource), "trainer", number), "ownerReferences": [owner]},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }
    scene.cache.children(scene.key).upsert_job(name, trim_job(await scene.cluster.create(jobs, body)))
    return f"{jobs}/{name}"


async def _is_deleted(scene: Scene, path: str) -> bool:
    try:
        await scene.cluster.get(path)
    except LookupError:
        return True
    return False


@asynccontextmanager
async def _without_events(scene: Scene) -> AsyncIterator[None]:
    """Have the API server reject every Event of the namespace."""
    root, name = "/apis/admissionregistration.k8s.io/v1", f"no-events.{scene.namespace}"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["events"], "operations": ["CREATE"]}
    policy = {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "false"}]}
    own = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": own}
    made = {"validatingadmissionpolicies": policy, "validatingadmissionpolicybindings": binding}
    for kind, spec in made.items():
        await scene.cluster.create(f"{root}/{kind}", {"metadata": {"name": name}, "spec": spec})
    try:
        await until(lambda: _is_rejected(scene), "Events are rejected")
        yield
    finally:
        for kind in made:
            await scene.cluster.delete(f"{root}/{kind}/{name}")


async def _is_rejected(scene: Scene) -> bool:
    path = f"/api/v1/namespaces/{scene.namespace}/events?dryRun=All"
    about = {"kind": "Pod", "name": "any", "namespace": scene.namespace}
    try:
        await scene.cluster.create(path, {"metadata": {"name": "any"}, "involvedObject": about})
    except LookupError as error:
        return "ValidatingAdmissionPolicy" in str(error)
    return False


async def on_scene(kubeconfig: Path, act: Callable[[Scene], Awaitable[None]]) -> None:
    """Act in a namespace with a job that is to be suspended."""
    async with _scene(kubeconfig) as scene:
        await act(scene)


@asynccontextmanager
async def _scene(kubeconfig: Path) -> AsyncIterator[Scene]:
    namespace = f"reconcile-{uuid.uuid4().hex[:8]}"
    connection = await connect(kubeconfig)
    async with ApiServer(kubeconfig) as cluster, aclosing(connection):
        await cluster.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        requests: list[str] = []
        client = ClusterClient(connection, lambda method, _: requests.append(method))
        try:
            yield Scene(cluster, namespace, client, requests)
        finally:
            await cluster.delete(f"/api/v1/namespaces/{namespace}")
