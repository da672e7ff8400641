"""A watch reports everything in a collection of a real API server, also of what happens while it is out of reach."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from zerotune_devtools import chart
from zerotune_devtools.harness.api_server import ApiServer, Object, until
from zerotune_devtools.harness.deadly_proxy import DeadlyProxy, Never
from zerotune_devtools.harness.host_operator import kubeconfig_of
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.connection import connect
from zerotune_operator.controller.watches import EventHandler, Watch

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]
LABEL = "zerotune.dev/watched"
OUTAGE_SECONDS = 2


@dataclass
class Scene:
    """A namespace whose labelled ConfigMaps are watched through a proxy."""

    cluster: ApiServer
    proxy: DeadlyProxy
    path: str
    watch: Watch
    known: dict[str, str] = field(default_factory=dict)
    """What the event handler knows: the data of every object, by name."""

    async def create(self, name: str, value: str = "1") -> None:
        metadata = {"name": name, "labels": {LABEL: "yes"}}
        await self.cluster.create(self.path, {"metadata": metadata, "data": {"value": value}})

    async def delete(self, name: str) -> None:
        await self.cluster.delete(f"{self.path}/{name}")

    async def knows(self, expected: dict[str, str]) -> None:
        async def same() -> bool:
            return self.known == expected

        await until(same, f"the event handler knows {expected}", 20)


def test_what_is_there_and_what_changes_is_reported(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        await scene.knows({"first": "1"})
        await scene.create("second")
        await scene.cluster.create(scene.path, {"metadata": {"name": "not-ours"}})
        await scene.delete("first")
        await scene.knows({"second": "1"})

    asyncio.run(_run(tmp_path, act))


def test_what_happens_during_an_outage_is_reported_after_it(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        await scene.create("second")
        await scene.knows({"first": "1", "second": "1"})
        outage = asyncio.create_task(scene.proxy.interrupt(OUTAGE_SECONDS))
        await asyncio.sleep(OUTAGE_SECONDS / 2)
        await scene.delete("first")
        await scene.delete("second")
        await scene.create("second", "2")
        await scene.create("third")
        await outage
        await scene.knows({"second": "2", "third": "1"})

    asyncio.run(_run(tmp_path, act))


def test_a_long_list_comes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerotune_operator.backends.kubernetes.client._PAGE", 2)

    async def act(scene: Scene) -> None:
        names = [f"more-{number}" for number in range(5)]
        await asyncio.gather(*(scene.create(name) for name in names))
        await scene.proxy.interrupt(0.1)
        await scene.knows(dict.fromkeys(["first", *names], "1"))

    asyncio.run(_run(tmp_path, act))


@pytest.mark.usefixtures("kubeconfig")
def test_a_version_that_is_too_old_is_an_error_within_the_watch(tmp_path: Path) -> None:
    # The API server keeps what has happened to ConfigMaps since it started; to kinds of ours, since there are any.
    path = "/apis/zerotune.dev/v1alpha1/finetunejobs"

    async def act(scene: Scene) -> None:
        answers = scene.watch.client.watch(path, {"resourceVersion": "1"})
        first = await anext(answers)
        assert (first["type"], first["object"]["code"]) == ("ERROR", 410)

    asyncio.run(_run(tmp_path, act))


async def _run(folder: Path, act: object) -> None:
    assert callable(act)
    async with _scene(folder) as scene:
        await act(scene)


@asynccontextmanager
async def _scene(folder: Path) -> AsyncIterator[Scene]:
    """The ConfigMap `first` is there before anything is watched."""
    namespace = f"watch-{uuid.uuid4().hex[:8]}"
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    async with ApiServer(chart.kubeconfig()) as cluster, DeadlyProxy(cluster, lambda: None, Never()) as proxy:
        await cluster.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        async with aclosing(await connect(kubeconfig_of(proxy.url, folder / "kubeconfig"))) as connection:
            known: dict[str, str] = {}
            watch = Watch(ClusterClient(connection), path, LABEL, _event_handler(known))
            scene = Scene(cluster, proxy, path, watch, known)
            await scene.create("first")
            task = asyncio.create_task(watch.run())
            try:
                await asyncio.wait_for(watch.listed.wait(), 20)
                assert known == {"first": "1"}, "all of it is known once it is listed"
                yield scene
            finally:
                task.cancel()
                await cluster.delete(f"/api/v1/namespaces/{namespace}")


def _event_handler(known: dict[str, str]) -> EventHandler:
    uids: dict[str, str] = {}

    def keep(found: Object) -> None:
        metadata = found["metadata"]
        known[metadata["name"]], uids[metadata["name"]] = found["data"]["value"], metadata["uid"]

    def drop(deleted: Object) -> None:
        if uids[deleted["metadata"]["name"]] == deleted["metadata"]["uid"]:
            del known[deleted["metadata"]["name"]]

    return EventHandler(keep, drop)
