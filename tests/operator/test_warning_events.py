"""What Events say of those that wait in a namespace of a real API server, read once for all of them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest

from zerotune_devtools import chart
from zerotune_devtools.harness.api_server import ApiServer
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.connection import connect
from zerotune_operator.backends.kubernetes.events import WarningEvents

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


@dataclass
class Scene:
    """A namespace with nothing in it but what a test puts there."""

    cluster: ApiServer
    namespace: str
    requests: list[str]
    """The methods of what was asked of the API server, through `warnings`."""
    warnings: WarningEvents

    async def create_event(self, uid: str, reason: str, kind: str = "Warning") -> None:
        about = {"apiVersion": "v1", "kind": "Pod", "name": f"pod-{uid}", "namespace": self.namespace, "uid": uid}
        metadata = {"name": uuid.uuid4().hex}
        event = {"metadata": metadata, "involvedObject": about, "type": kind, "reason": reason, "message": uid}
        await self.cluster.create(f"/api/v1/namespaces/{self.namespace}/events", event)

    async def about(self, *uids: str) -> list[tuple[str, str]]:
        return [(event["message"], event["reason"]) for event in await self.warnings.about(self.namespace, uids)]


def test_all_who_ask_share_one_list_of_what_is_telling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerotune_operator.backends.kubernetes.client._PAGE", 2)

    async def act(scene: Scene) -> None:
        for uid in ("one", "two", "three"):
            await scene.create_event(uid, "FailedMount")
            await scene.create_event(uid, "BackOff")
        await scene.create_event("one", "FailedMount", "Normal")
        first, others = await asyncio.gather(scene.about("one"), scene.about("two", "three", "nobody"))
        assert first == [("one", "FailedMount")]
        assert others == [("two", "FailedMount"), ("three", "FailedMount")]
        pages = len(scene.requests)
        # Six Warnings in pages of two; the page after the last may be asked for, and be empty.
        assert pages in (3, 4)
        assert await scene.about("two") == [("two", "FailedMount")]
        assert len(scene.requests) == pages

    asyncio.run(_run(act))


def test_a_list_is_read_again_once_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerotune_operator.backends.kubernetes.events._FRESH_SECONDS", 1.0)

    async def act(scene: Scene) -> None:
        assert await scene.about("one") == []
        await scene.create_event("one", "FailedCreate")
        await asyncio.sleep(1.1)
        assert await scene.about("one") == [("one", "FailedCreate")]

    asyncio.run(_run(act))


def test_one_who_gives_up_leaves_the_answer_to_the_others() -> None:
    async def act(scene: Scene) -> None:
        await scene.create_event("one", "FailedCreate")
        impatient, patient = asyncio.create_task(scene.about("one")), asyncio.create_task(scene.about("one"))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await patient == [("one", "FailedCreate")]

    asyncio.run(_run(act))


async def _run(act: object) -> None:
    assert callable(act)
    async with _scene() as scene:
        await act(scene)


@asynccontextmanager
async def _scene() -> AsyncIterator[Scene]:
    namespace = f"events-{uuid.uuid4().hex[:8]}"
    connection = await connect(chart.kubeconfig())
    async with ApiServer(chart.kubeconfig()) as cluster, aclosing(connection):
        await cluster.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        requests: list[str] = []
        client = ClusterClient(connection, lambda method, _: requests.append(method))
        try:
            yield Scene(cluster, namespace, requests, WarningEvents(client))
        finally:
            await cluster.delete(f"/api/v1/namespaces/{namespace}")
