"""One pod of every job is killed at once, on fake nodes: the operator against a client that begins all jobs anew.

    floor      16 clients: the Job, the ConfigMap and the Secret of every job deleted, and created under the next name
    operator   16 clients: a pod of every job deleted; a job is back when all pods of its next attempt exist

Both are timed from the first deletion to the moment at which the pods of all new Jobs exist. So many rounds of both are
run, and the floor once more. The cluster is that of `make cluster`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from zerotune_devtools.benchmarks.measured_operator import all_run, running_operator
from zerotune_devtools.benchmarks.operator_jobs import (
    PATHS,
    PODS,
    benchmark_namespace,
    by_all_clients,
    create_all,
    job_manifest,
    pods_of,
    rendered_objects,
)
from zerotune_devtools.checkout import cache_folder
from zerotune_devtools.harness.api_server import ApiServer, Object, until
from zerotune_devtools.harness.fake_nodes import fake_nodes, progress_of_all_pods
from zerotune_devtools.harness.host_operator import prepare_cluster

_REST_SECONDS = 6
_FIRST_POD = "batch.kubernetes.io%2Fjob-completion-index%3D0"


def main() -> None:
    """Run the storm and print the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--jobs", type=int, default=200, help="how many (default: %(default)s)")
    options.add_argument("--rounds", type=int, default=3, help="how many (default: %(default)s)")
    chosen = options.parse_args()
    floors, storms = asyncio.run(_rounds(chosen.jobs, chosen.rounds))
    sys.stdout.write(
        f"{chosen.jobs} jobs of {PODS} pods: all begun anew by a client after {_listed(floors)} s, by the operator "
        f"after one pod of each was killed {_listed(storms)} s; ratio of the medians "
        f"{median(storms) / median(floors):.2f}\n"
    )


def _listed(seconds: Sequence[float]) -> str:
    return ", ".join(f"{each:.1f}" for each in seconds)


async def _rounds(jobs: int, rounds: int) -> tuple[list[float], list[float]]:
    kubeconfig, kwok = prepare_cluster(), cache_folder() / "bin" / "kwok"
    async with (
        ApiServer(kubeconfig) as cluster,
        fake_nodes(cluster, kwok, kubeconfig),
        progress_of_all_pods(cluster),
    ):
        floors, storms = [], []
        for _ in range(rounds):
            floors.append(await _floor(cluster, jobs))
            storms.append(await _storm(cluster, kubeconfig, jobs))
        return [*floors, await _floor(cluster, jobs)], storms


async def _floor(cluster: ApiServer, jobs: int) -> float:
    """Seconds in which a client by itself deletes every Job with its ConfigMap and Secret and creates them anew."""
    rendered = [rendered_objects(f"bench-{number}") for number in range(jobs)]
    anew = [
        [_renamed(each) for each in objects if each["kind"] in ("ConfigMap", "Secret", "Job")] for objects in rendered
    ]
    async with benchmark_namespace(cluster) as namespace, pods_of(cluster, namespace, 2 * jobs * PODS) as all_pods:
        async with pods_of(cluster, namespace, jobs * PODS) as first_pods:
            await create_all(cluster, namespace, rendered)
            await first_pods
        await asyncio.sleep(_REST_SECONDS)
        began = time.monotonic()

        async def begin_anew(objects: Sequence[Object]) -> None:
            for each in objects:
                path = PATHS[each["kind"]].format(namespace)
                old = each["metadata"]["name"].removesuffix("-anew")
                await cluster.delete(f"{path}/{old}?propagationPolicy=Background")
                await cluster.create(path, each)

        await by_all_clients(anew, begin_anew)
        return await all_pods - began


def _renamed(made: Object) -> Object:
    return made | {"metadata": made["metadata"] | {"name": f"{made['metadata']['name']}-anew"}}


async def _storm(cluster: ApiServer, kubeconfig: Path, jobs: int) -> float:
    """Seconds in which the operator begins every job anew of which one pod is killed."""
    wanted = [[job_manifest(f"bench-{number}")] for number in range(jobs)]
    async with (
        benchmark_namespace(cluster) as namespace,
        running_operator(cluster, namespace, kubeconfig),
        pods_of(cluster, namespace, 2 * jobs * PODS) as all_pods,
    ):
        await create_all(cluster, namespace, wanted)
        await until(lambda: all_run(cluster, namespace), "every status says Running", 60 + jobs)
        await asyncio.sleep(_REST_SECONDS)
        pods = f"/api/v1/namespaces/{namespace}/pods"
        first = [pod["metadata"]["name"] for pod in await cluster.items(f"{pods}?labelSelector={_FIRST_POD}")]
        began = time.monotonic()
        await by_all_clients(first, lambda name: cluster.delete(f"{pods}/{name}"))
        return await all_pods - began


if __name__ == "__main__":
    main()
