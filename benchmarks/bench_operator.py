"""Many jobs of four pods at once on fake nodes: the operator against a client that creates the same objects itself.

    floor      16 creators: Service, NetworkPolicy, ConfigMap and Job of every job, as the operator renders them
    operator   16 creators: FineTuneJobs; a job is done when its status says Running and how far it is
    ...        so many rounds of both, and the floor once more: one of either is up to a fifth off the mean

The operator is the whole one, as it is installed: progress is asked for every ten seconds, Events are told. Its CPU
time is taken from the first create to three seconds after the last status, its memory is the peak (VmHWM) up to then.
After that every job runs on for a while: what that costs. The cluster is that of `make cluster`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from http import HTTPStatus
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from aiohttp import ClientPayloadError

from zerotune_devtools.checkout import cache_folder
from zerotune_devtools.harness.api_server import ApiServer, Object, RefusedError, until
from zerotune_devtools.harness.deadly_proxy import MODEL, DeadlyProxy, Never
from zerotune_devtools.harness.fake_nodes import fake_nodes, placement, progress_of_all_pods
from zerotune_devtools.harness.host_operator import HostOperator, prepare_cluster
from zerotune_operator.api.load import parse_job
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.layout import place
from zerotune_operator.backends.kubernetes.render import render
from zerotune_operator.backends.model_shape import shape_of_file
from zerotune_operator.plan import plan_job
from zerotune_trainer.config import JobIdentity

CREATORS, PODS = 16, 4
MODEL_URI = "hf://small/model"
PATHS = {
    "FineTuneJob": "/apis/zerotune.dev/v1alpha1/namespaces/{}/finetunejobs",
    "Service": "/api/v1/namespaces/{}/services",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
}
_REST_SECONDS, _AFTER_SECONDS, _STEADY_SECONDS = 6, 3, 30
_ONLY_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Cost:
    """What the operator took."""

    pods_seconds: float
    """Until all pods existed."""
    running_seconds: float
    """Until every status said so."""
    cpu_milliseconds_a_job: float
    peak_mebibytes: float
    requests_a_job: float
    steady_cpu_milliseconds_a_job_and_minute: float
    steady_requests_a_minute: float


def main() -> None:
    """Run the batch and print the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--jobs", type=int, default=200, help="how many (default: %(default)s)")
    options.add_argument("--rounds", type=int, default=3, help="how many (default: %(default)s)")
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    chosen = options.parse_args()
    floors, costs = asyncio.run(_batch(chosen.jobs, chosen.rounds))
    ratio, cost = mean(each.pods_seconds for each in costs) / mean(floors), _typical(costs)
    sys.stdout.write(
        f"{chosen.jobs} jobs of {PODS} pods: floor {_listed(floors)} s, operator "
        f"{_listed(each.pods_seconds for each in costs)} s, ratio of the means {ratio:.2f}; all Running after "
        f"{cost.running_seconds:.1f} s\n"
        f"operator: {cost.cpu_milliseconds_a_job:.1f} CPU ms a job, peak {cost.peak_mebibytes:.0f} MiB, "
        f"{cost.requests_a_job:.1f} requests a job; while all run {cost.steady_cpu_milliseconds_a_job_and_minute:.1f} "
        f"CPU ms a job and minute, {cost.steady_requests_a_minute:.0f} requests a minute\n"
    )
    if chosen.json:
        figures = {"jobs": chosen.jobs, "floor_seconds": floors, "ratio": ratio, "rounds": list(map(asdict, costs))}
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


def _typical(costs: Sequence[Cost]) -> Cost:
    """The mean of all rounds, and the highest of the peaks."""
    means = {each.name: mean(getattr(cost, each.name) for cost in costs) for each in fields(Cost)}
    return Cost(**means | {"peak_mebibytes": max(cost.peak_mebibytes for cost in costs)})


def _listed(seconds: Iterable[float]) -> str:
    return ", ".join(f"{each:.1f}" for each in seconds)


async def _batch(jobs: int, rounds: int) -> tuple[list[float], list[Cost]]:
    kubeconfig, kwok = prepare_cluster(), cache_folder() / "bin" / "kwok"
    async with (
        ApiServer(kubeconfig) as cluster,
        fake_nodes(cluster, kwok, kubeconfig),
        progress_of_all_pods(cluster),
    ):
        floors, costs = [], []
        for _ in range(rounds):
            floors.append(await _floor(cluster, jobs))
            costs.append(await _operator(cluster, kubeconfig, jobs))
        return [*floors, await _floor(cluster, jobs)], costs


async def _floor(cluster: ApiServer, jobs: int) -> float:
    """Seconds until all pods exist that a client asks for by itself."""
    rendered = [_objects(f"bench-{number}") for number in range(jobs)]
    async with _namespace(cluster) as namespace, _pods_of(cluster, namespace, jobs * PODS) as all_pods:
        await asyncio.sleep(_REST_SECONDS)  # Right after the deletions before it, the figures are further apart.
        began = time.monotonic()
        await _create(cluster, namespace, rendered)
        return await all_pods - began


async def _operator(cluster: ApiServer, kubeconfig: Path, jobs: int) -> Cost:
    wanted = [[_job(f"bench-{number}")] for number in range(jobs)]
    async with (
        _namespace(cluster) as namespace,
        _running_operator(cluster, namespace, kubeconfig) as operator,
        _pods_of(cluster, namespace, jobs * PODS) as all_pods,
    ):
        await asyncio.sleep(_REST_SECONDS)
        cpu, requests, began = _cpu_seconds(operator), await _requests(operator), time.monotonic()
        await _create(cluster, namespace, wanted)
        pods = await all_pods - began
        await until(lambda: _all_run(cluster, namespace), "every status says Running", 60 + jobs)
        running = time.monotonic() - began
        await asyncio.sleep(_AFTER_SECONDS)
        cpu_then, requests_then, peak = _cpu_seconds(operator), await _requests(operator), _peak_mebibytes(operator)
        await asyncio.sleep(_STEADY_SECONDS)
        steady_cpu, steady_requests = _cpu_seconds(operator) - cpu_then, await _requests(operator) - requests_then
        minutes = _STEADY_SECONDS / 60
        return Cost(
            pods_seconds=pods,
            running_seconds=running,
            cpu_milliseconds_a_job=1000 * (cpu_then - cpu) / jobs,
            peak_mebibytes=peak,
            requests_a_job=(requests_then - requests) / jobs,
            steady_cpu_milliseconds_a_job_and_minute=1000 * steady_cpu / jobs / minutes,
            steady_requests_a_minute=steady_requests / minutes,
        )


@asynccontextmanager
async def _running_operator(cluster: ApiServer, namespace: str, kubeconfig: Path) -> AsyncIterator[HostOperator]:
    """An operator that works in the namespace. The Hub is the proxy's: nothing else goes through it."""
    with TemporaryDirectory() as folder:
        async with DeadlyProxy(cluster, lambda: None, Never()) as hub:
            started = HostOperator.start(
                Path(folder), namespace, kubeconfig, hub=f"{hub.url}/hub", progress_interval=10
            )
            try:
                await until(lambda: started.answers("/readyz"), "the operator is ready")
                await until(lambda: _leads(started), "the operator leads")
                await until(lambda: started.answers("/readyz"), "the operator knows what is there")
                yield started
            finally:
                started.end()


async def _leads(operator: HostOperator) -> bool:
    return await operator.figure("zerotune_leader") == 1


async def _requests(operator: HostOperator) -> float:
    return await operator.figure("zerotune_api_requests_total")


async def _all_run(cluster: ApiServer, namespace: str) -> bool:
    found = await cluster.items(PATHS["FineTuneJob"].format(namespace))
    return all(job.get("status", {}).get("phase") == "Running" for job in found)


@asynccontextmanager
async def _namespace(cluster: ApiServer) -> AsyncIterator[str]:
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
        await until(lambda: _is_gone(cluster, name), f"the namespace {name} is gone", 900)


async def _delete_all(cluster: ApiServer, path: str) -> None:
    while True:  # The API server gives up after a minute, with a part of them deleted: it breaks off, or says 504.
        try:
            return await cluster.delete(path)
        except ClientPayloadError:
            continue
        except RefusedError as error:
            if error.status != HTTPStatus.GATEWAY_TIMEOUT:
                raise


async def _is_gone(cluster: ApiServer, name: str) -> bool:
    return not await cluster.items(f"/api/v1/namespaces?fieldSelector=metadata.name%3D{name}")


@asynccontextmanager
async def _pods_of(cluster: ApiServer, namespace: str, number: int) -> AsyncIterator[asyncio.Task[float]]:
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


async def _create(cluster: ApiServer, namespace: str, jobs: Sequence[Sequence[Object]]) -> None:
    """Create the objects of every job, one after the other, of so many jobs at a time."""
    left = iter(jobs)

    async def create_next() -> None:
        for objects in left:
            for each in objects:
                await cluster.create(PATHS[each["kind"]].format(namespace), each)

    await asyncio.gather(*(create_next() for _ in range(CREATORS)))


def _job(name: str) -> Object:
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
            "backend": {"kubernetes": {"pod": {"spec": placement()}}},
        },
    }


def _objects(name: str) -> list[Object]:
    """What the operator makes of it, in the order that it does; nobody owns it."""
    job = parse_job(_job(name) | {"metadata": {"name": name, "namespace": "any", "uid": str(uuid.uuid4())}})
    with TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(MODEL))
        shape = shape_of_file(Path(folder, "config.json"))
    identity = JobIdentity(kind=job.kind, name=name, uid=job.metadata.uid, attempt=0)
    attempt = render(plan_job(job, shape, place(job, 0, MODEL_URI), identity), job, Installation("trainer:bench"))
    return [_unowned(each) for each in (*attempt.shared, attempt.job)]


def _unowned(made: Object) -> Object:
    kept = {key: value for key, value in made["metadata"].items() if key not in ("namespace", "ownerReferences")}
    return made | {"metadata": kept}


def _cpu_seconds(operator: HostOperator) -> float:
    columns = Path(f"/proc/{operator.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(columns[11]) + int(columns[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mebibytes(operator: HostOperator) -> float:
    lines = Path(f"/proc/{operator.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
