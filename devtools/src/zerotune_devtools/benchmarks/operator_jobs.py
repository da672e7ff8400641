"""The jobs that benchmarks of the operator run: as a user writes them, and as the objects that the operator makes."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from aiohttp import ClientPayloadError

from zerotune_devtools.harness.api_server import ApiServer, Object, RejectedError, until
from zerotune_devtools.harness.deadly_proxy import MODEL
from zerotune_devtools.harness.fake_nodes import node_selection
from zerotune_operator.api.load import parse_job
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.layout import place
from zerotune_operator.backends.kubernetes.pod_policy import ANY_NAMES
from zerotune_operator.backends.kubernetes.render import render
from zerotune_operator.backends.model_shape import shape_of_file
from zerotune_operator.plan import plan_job
from zerotune_trainer.config import JobIdentity

CLIENTS, PODS = 16, 4
"""Clients that ask at a time, and pods of each job."""
MODEL_URI = "hf://small/model"
PATHS = {
    "FineTuneJob": "/apis/zerotune.dev/v1alpha1/namespaces/{}/finetunejobs",
    "Service": "/api/v1/namespaces/{}/services",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
}
T = TypeVar("T")
_ONLY_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@asynccontextmanager
async def benchmark_namespace(cluster: ApiServer) -> AsyncIterator[str]:
    """A namespace; its end is waited for, so that it takes nothing from what comes next."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    await cluster.create("/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        yield name
    finally:
        # In this order, and without waiting for nodes that are none, it is a matter of seconds.
        for path in (PATHS["FineTuneJob"], PATHS["Job"]):
            await cluster.delete(f"{path.format(name)}?propagationPolicy=Background")
        await _delete_all(cluster, f"/api/v1/namespaces/{name}/pods?gracePeriodSeconds=0")
        await cluster.delete(f"/api/v1/namespaces/{name}")
        await until(lambda: _is_deleted(cluster, name), f"the namespace {name} is deleted", 900)


async def _delete_all(cluster: ApiServer, path: str) -> None:
    while True:  # The API server gives up after a minute, with a part of them deleted: it breaks off, or says 504.
        try:
            await cluster.delete(path)
            return
        except ClientPayloadError:
            continue
        except RejectedError as error:
            if error.status != HTTPStatus.GATEWAY_TIMEOUT:
                raise


async def _is_deleted(cluster: ApiServer, name: str) -> bool:
    return not await cluster.items(f"/api/v1/namespaces?fieldSelector=metadata.name%3D{name}")


@asynccontextmanager
async def pods_of(cluster: ApiServer, namespace: str, number: int) -> AsyncIterator[asyncio.Task[float]]:
    """When (by `time.monotonic`) the namespace has so many pods: a task."""
    counting = asyncio.create_task(_count(cluster, namespace, number))
    try:
        yield counting
    finally:
        counting.cancel()


async def _count(cluster: ApiServer, namespace: str, number: int) -> float:
    seen: set[str] = set()
    url = f"{cluster.url}/api/v1/namespaces/{namespace}/pods?watch=1"
    while True:  # A watch may end at any time; a new one begins with what is there.
        async with cluster.session.get(url, headers={"Accept": _ONLY_METADATA}) as answer:
            async for line in answer.content:
                seen.add(json.loads(line)["object"]["metadata"]["name"])
                if len(seen) == number:
                    return time.monotonic()


async def create_all(cluster: ApiServer, namespace: str, jobs: Sequence[Sequence[Object]]) -> None:
    """Create the objects of every job, one after the other, of so many jobs at a time."""

    async def create(objects: Sequence[Object]) -> None:
        for each in objects:
            await cluster.create(PATHS[each["kind"]].format(namespace), each)

    await by_all_clients(jobs, create)


async def by_all_clients(items: Iterable[T], act: Callable[[T], Awaitable[None]]) -> None:
    """Do it with every item, with `CLIENTS` of them at a time."""
    left = iter(items)

    async def next_ones() -> None:
        for item in left:
            await act(item)

    await asyncio.gather(*(next_ones() for _ in range(CLIENTS)))


def job_manifest(name: str) -> Object:
    """A job as a user writes it."""
    return {
        "apiVersion": "zerotune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "method": "sft",
            "model": {"uri": MODEL_URI},
            "data": {"train": {"uris": ["s3://records/*.jsonl"]}, "maxLength": 64},
            "topology": {"nodes": PODS},
            "output": {"uri": f"s3://models/{name}"},
            "backend": {"kubernetes": {"pod": {"spec": node_selection()}}},
        },
    }


def rendered_objects(name: str) -> list[Object]:
    """What the operator makes of it, in the order that it does; nobody owns it."""
    job = parse_job(job_manifest(name) | {"metadata": {"name": name, "namespace": "any", "uid": str(uuid.uuid4())}})
    with TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(MODEL))
        shape = shape_of_file(Path(folder, "config.json"))
    identity = JobIdentity(kind=job.kind, name=name, uid=job.metadata.uid, attempt=0)
    plan = plan_job(job, shape, place(job, 0, MODEL_URI), identity)
    attempt = render(plan, job, Installation("trainer:bench", pod_policy=ANY_NAMES))
    return [_unowned(each) for each in (*attempt.shared, attempt.secret, attempt.job)]


def _unowned(made: Object) -> Object:
    kept = {key: value for key, value in made["metadata"].items() if key not in ("namespace", "ownerReferences")}
    return made | {"metadata": kept}
