"""Many jobs of four pods at once on fake nodes: the operator against a client that creates the same objects itself.

    floor      16 creators: Service, NetworkPolicy, ConfigMap, Secret and Job of every job, as the operator renders them
    operator   16 creators: FineTuneJobs; a job is done when its status says Running and how far it is
    ...        so many rounds of both, and the floor once more: one of either is up to a fifth off the mean

The operator is the whole one, as it is installed: progress is asked for every ten seconds, Events are written. Its CPU
time is taken from the first create to three seconds after the last status, its memory is the peak (VmHWM) up to then.
After that every job runs on for a while: what that costs. The cluster is that of `make cluster`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean

from zerotune_devtools.benchmarks.measured_operator import (
    all_run,
    cpu_seconds,
    peak_mebibytes,
    requests,
    running_operator,
)
from zerotune_devtools.benchmarks.operator_jobs import (
    PODS,
    benchmark_namespace,
    create_all,
    job_manifest,
    pods_of,
    rendered_objects,
)
from zerotune_devtools.checkout import cache_folder
from zerotune_devtools.harness.api_server import ApiServer, until
from zerotune_devtools.harness.fake_nodes import fake_nodes, progress_of_all_pods
from zerotune_devtools.harness.host_operator import prepare_cluster

_REST_SECONDS, _AFTER_SECONDS, _STEADY_SECONDS = 6, 3, 30


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
    rendered = [rendered_objects(f"bench-{number}") for number in range(jobs)]
    async with benchmark_namespace(cluster) as namespace, pods_of(cluster, namespace, jobs * PODS) as all_pods:
        await asyncio.sleep(_REST_SECONDS)  # Right after the deletions before it, the figures are further apart.
        began = time.monotonic()
        await create_all(cluster, namespace, rendered)
        return await all_pods - began


async def _operator(cluster: ApiServer, kubeconfig: Path, jobs: int) -> Cost:
    wanted = [[job_manifest(f"bench-{number}")] for number in range(jobs)]
    async with (
        benchmark_namespace(cluster) as namespace,
        running_operator(cluster, namespace, kubeconfig) as operator,
        pods_of(cluster, namespace, jobs * PODS) as all_pods,
    ):
        await asyncio.sleep(_REST_SECONDS)
        cpu, asked, began = cpu_seconds(operator), await requests(operator), time.monotonic()
        await create_all(cluster, namespace, wanted)
        pods = await all_pods - began
        await until(lambda: all_run(cluster, namespace), "every status says Running", 60 + jobs)
        running = time.monotonic() - began
        await asyncio.sleep(_AFTER_SECONDS)
        cpu_then, asked_then, peak = cpu_seconds(operator), await requests(operator), peak_mebibytes(operator)
        await asyncio.sleep(_STEADY_SECONDS)
        steady_cpu, steady_requests = cpu_seconds(operator) - cpu_then, await requests(operator) - asked_then
        minutes = _STEADY_SECONDS / 60
        return Cost(
            pods_seconds=pods,
            running_seconds=running,
            cpu_milliseconds_a_job=1000 * (cpu_then - cpu) / jobs,
            peak_mebibytes=peak,
            requests_a_job=(asked_then - asked) / jobs,
            steady_cpu_milliseconds_a_job_and_minute=1000 * steady_cpu / jobs / minutes,
            steady_requests_a_minute=steady_requests / minutes,
        )


if __name__ == "__main__":
    main()
