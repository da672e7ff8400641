"""What the operator asks of the API server to end an attempt's Job, and to keep what its pods need."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from tests.unit.kubernetes.rendering import GOLDEN, INSTALLATION, fine_tune_job
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.kubernetes.backend import KubernetesBackend
from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.backends.kubernetes.client import ClusterClient, path_of
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.connection import Connection
from zerotune_operator.backends.kubernetes.events import WarningEvents
from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.model_shape import shape_of_file
from zerotune_operator.lifecycle.record import ATTEMPTS_KEPT
from zerotune_operator.plan import Plan
from zerotune_trainer.errors import Failure, TemporaryError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = fine_tune_job()
SHAPE = shape_of_file(GOLDEN / "plan" / "models" / "tiny-llama.json")


@dataclass
class Objects:
    """A server that keeps objects by path, as the API server does, and nothing else of it."""

    known: dict[str, Object] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """What was written, and of whom: `POST Job`."""

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        path = request.path
        if request.method == "POST":
            path = f"{path}/{body['metadata']['name']}"
        there = self.known.get(path)
        if request.method != "GET":
            self.asked.append(f"{request.method} {path.split('/')[-2]}")
        if request.method == "POST" and there is None:
            there = self.known[path] = self._made(body)
        elif request.method == "POST":
            return _status(409, "AlreadyExists")
        elif there is None:
            return _status(404, "NotFound")
        elif request.method == "DELETE":
            if body["preconditions"]["uid"] != there["metadata"]["uid"]:
                return _status(409, "Conflict")
            del self.known[path]
        return web.json_response(there)

    def _made(self, body: Object) -> Object:
        given = {"uid": f"uid-{len(self.asked)}", "resourceVersion": "1", "creationTimestamp": NOW.isoformat()}
        return body | {"metadata": body["metadata"] | given}


def _status(code: int, reason: str) -> web.Response:
    return web.json_response({"reason": reason, "message": reason}, status=code)


@dataclass
class Scene:
    """A backend whose API server is `objects`, and what its watches know."""

    objects: Objects
    cache: Cache
    backend: KubernetesBackend
    plan: Plan
    now: datetime = NOW

    @property
    def job(self) -> Object:
        """What is known of the Job of the attempt."""
        [made] = self.cache.children(KEY).jobs.values()
        return made

    async def close(self, *, nodes: str = "ended", seconds: float = 0) -> list[str]:
        """Close the attempt so long after its pods ended; what was written."""
        self.objects.asked.clear()
        self.now = NOW + timedelta(seconds=seconds)
        ref = self.backend.attempt_ref(0, "")
        seen = await self.backend.observe(ref)
        assert [node.state for node in seen.nodes] == [nodes]
        await self.backend.close(ref, seen)
        return self.objects.asked


KEY = Key("FineTuneJob", "default", "tune")


def played(act: Callable[[Scene], Awaitable[None]]) -> None:
    """Act on an attempt that was started."""

    async def play() -> None:
        objects = Objects()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", objects.answer)
        async with (
            TestServer(app) as server,
            aclosing(Connection(Configuration(host=str(server.make_url("")).rstrip("/")))) as connection,
        ):
            client, cache = ClusterClient(connection), Cache()
            scene: Scene
            cluster = Cluster(cache, client, WarningEvents(client), Launchers(), INSTALLATION, lambda: scene.now)
            backend = KubernetesBackend(JOB, cluster)
            scene = Scene(objects, cache, backend, backend.plan(Inputs("s3://mmm/m", SHAPE, {}), 0))
            await backend.apply(backend.render(scene.plan))
            await act(scene)
            await cluster.launchers.close()

    asyncio.run(play())


def end_pod(scene: Scene, **pod: Any) -> None:
    """The only pod of the attempt has ended; `pod` are fields of its status."""
    job = scene.job
    state = {"exitCode": 143, "reason": "Error", "finishedAt": NOW.isoformat()}
    metadata = {
        "name": "p",
        "uid": "p",
        "resourceVersion": "2",
        "labels": job["metadata"]["labels"],
        "annotations": {"batch.kubernetes.io/job-completion-index": "0"},
        "ownerReferences": [{"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}],
    }
    status = {"phase": "Failed", "containerStatuses": [{"name": "trainer", "state": {"terminated": state}}]}
    spec = {"containers": [{"name": "trainer", "image": "i"}]}
    scene.cache.children(KEY).upsert_pod("p", {"metadata": metadata, "spec": spec, "status": status | pod})
    job["status"] = {"startTime": NOW.isoformat()}


def test_a_job_that_is_about_to_end_by_itself_is_left_alone() -> None:
    async def act(scene: Scene) -> None:
        end_pod(scene)
        assert await scene.close(seconds=5) == []
        scene.job["status"]["conditions"] = [{"type": "Failed", "status": "True"}]
        assert await scene.close(seconds=500) == []

    played(act)


def test_a_job_that_does_not_notice_its_end_is_asked_to_and_then_deleted() -> None:
    async def act(scene: Scene) -> None:
        end_pod(scene)
        assert await scene.close(seconds=50) == []
        assert await scene.close(seconds=60) == ["PATCH jobs"]
        scene.job["spec"]["activeDeadlineSeconds"] = 1
        since = (NOW + timedelta(seconds=60)).isoformat()
        scene.job["status"]["conditions"] = [{"type": "FailureTarget", "status": "True", "lastTransitionTime": since}]
        assert await scene.close(seconds=80) == []
        assert await scene.close(seconds=90) == ["DELETE jobs"]

    played(act)


@pytest.mark.parametrize("started", [True, False])
def test_a_suspended_job_is_deleted_so_that_nobody_lets_it_go_on(started: bool) -> None:
    async def act(scene: Scene) -> None:
        end_pod(scene)
        scene.job["spec"]["suspend"] = True
        scene.job["status"] = {"startTime": NOW.isoformat()} if started else {}
        assert await scene.close() == ["DELETE jobs"]

    played(act)


def test_the_job_of_a_lost_machine_is_deleted_as_nobody_will_report_its_pod() -> None:
    async def act(scene: Scene) -> None:
        end_pod(scene, phase="Unknown", containerStatuses=[])
        assert await scene.close() == ["DELETE jobs"]

    played(act)


@pytest.mark.parametrize("soon", [True, False], ids=["a pod waits for it", "no pod waits for it"])
def test_what_pods_need_is_made_again_where_it_is_deleted(soon: bool) -> None:
    async def act(scene: Scene) -> None:
        ref = scene.backend.attempt_ref(0, "")
        seen = await scene.backend.observe(ref)
        shared = scene.backend.render(scene.plan).shared
        for wanted in shared:
            del scene.objects.known[path_of(wanted)]
        scene.objects.asked.clear()
        missing = Failure(failure_class="MissingReference", message="no configmap", exit_code=75)
        lacking = replace(seen, nodes=tuple(replace(node, failure=missing) for node in seen.nodes))
        scene.now = NOW + timedelta(seconds=9 if soon else 59)
        await scene.backend.restore(ref, lacking if soon else seen, lambda: scene.plan)
        assert scene.objects.asked == [], "it was read a moment ago"
        scene.now = NOW + timedelta(seconds=10 if soon else 60)
        await scene.backend.restore(ref, lacking if soon else seen, lambda: scene.plan)
        made = ["POST services", "POST networkpolicies", "POST configmaps"]
        assert scene.objects.asked == ([*made, "POST secrets"] if soon else made)
        assert all(scene.objects.known[path_of(wanted)]["metadata"]["uid"] for wanted in shared)

    played(act)


def test_what_was_started_before_is_brought_up_to_date_and_not_changed_otherwise() -> None:
    async def act(scene: Scene) -> None:
        scene.objects.asked.clear()
        await scene.backend.apply(scene.backend.render(scene.plan))
        patched = ["POST services", "PATCH services", "POST networkpolicies", "PATCH networkpolicies"]
        assert sorted(scene.objects.asked) == sorted([*patched, "POST configmaps", "POST secrets", "POST jobs"])

    played(act)


def test_the_secret_of_an_attempt_is_random_and_stays_as_it_was_made() -> None:
    async def act(scene: Scene) -> None:
        manifests = scene.backend.render(scene.plan)
        assert "data" not in manifests.secret
        assert "stringData" not in manifests.secret
        made = scene.objects.known[path_of(manifests.secret)]
        assert re.fullmatch("[0-9a-f]{64}", made["stringData"]["rendezvous-secret"])
        (config_map,) = (each for path, each in scene.objects.known.items() if "/configmaps/" in path)
        [owner] = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("ConfigMap", config_map["metadata"]["uid"])
        await scene.backend.apply(manifests)
        assert scene.objects.known[path_of(manifests.secret)] == made
        del scene.objects.known[path_of(manifests.secret)]
        await scene.backend.apply(manifests)
        assert scene.objects.known[path_of(manifests.secret)]["stringData"] != made["stringData"]

    played(act)


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy", "ConfigMap", "Job"])
def test_an_object_of_our_name_that_is_anothers_is_left_alone(kind: str) -> None:
    async def act(scene: Scene) -> None:
        made = scene.backend.render(scene.plan)
        [wanted] = [each for each in (*made.shared, made.secret, made.job) if each["kind"] == kind]
        theirs = {"metadata": {"name": wanted["metadata"]["name"], "uid": "theirs"}}
        scene.objects.known[path_of(wanted)] = theirs
        with pytest.raises(TemporaryError, match=f"the {kind} .* is there already, and is not this job's"):
            await scene.backend.apply(made)
        assert scene.objects.known[path_of(wanted)] == theirs

    played(act)


@pytest.mark.parametrize(("owner", "deleted"), [(None, ["DELETE configmaps", "DELETE jobs"]), ("u", ["DELETE jobs"])])
def test_of_an_attempt_that_is_listed_no_more_nothing_of_its_own_is_left(owner: str | None, deleted: list[str]) -> None:
    async def act(scene: Scene) -> None:
        (path,) = (path for path in scene.objects.known if "/configmaps/" in path)
        if owner is not None:  # It was deleted, and another's has its name.
            scene.objects.known[path]["metadata"]["ownerReferences"] = [{"kind": "Job", "uid": owner}]
        scene.objects.asked.clear()
        await scene.backend.clean_up(ATTEMPTS_KEPT)
        assert scene.objects.asked == deleted

    played(act)
