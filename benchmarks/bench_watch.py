"""The operator's own watch of Jobs and pods (`controller.watches`) against kopf's handlers, on the same events.

    own    one `Watch` with the operator's label selector
    kopf   `kopf.index` and `kopf.on.event` with that selector and the settings of the operator

Each follows the Jobs of one namespace in a process of its own, both at the same time: so many suspended Jobs are there
at the start, and each is changed so many times. A process ends when it knows the last change of every Job. Its CPU time
is that of the events alone, without its start. The cluster is that of `make cluster`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from zerotune_devtools.benchmarks.operator_jobs import PATHS, benchmark_namespace, by_all_clients
from zerotune_devtools.harness.api_server import ApiServer, Object
from zerotune_devtools.harness.host_operator import prepare_cluster
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.connection import Connection, connect
from zerotune_operator.controller.handlers import login, settings
from zerotune_operator.controller.watches import EventHandler, Watch

_SELECTOR = "bench=watch"
_CHANGE = "bench/change"
_FOLLOWERS = ("own", "kopf")


def main() -> None:
    """Run both followers and print what they took."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--jobs", type=int, default=500, help="how many (default: %(default)s)")
    options.add_argument("--changes", type=int, default=8, help="of each job (default: %(default)s)")
    options.add_argument("--follow", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.follow:
        asyncio.run(_Follower(chosen.jobs, str(chosen.changes)).run(*chosen.follow))
        return
    costs = asyncio.run(_compare(chosen.jobs, chosen.changes))
    own, kopfs = (costs[name] for name in _FOLLOWERS)
    sys.stdout.write(
        f"{chosen.jobs} jobs, {chosen.changes} changes of each: events own {own['events']}, kopf {kopfs['events']}; "
        f"CPU ms an event own {own['cpu_milliseconds']:.2f}, kopf {kopfs['cpu_milliseconds']:.2f}, ratio "
        f"{kopfs['cpu_milliseconds'] / own['cpu_milliseconds']:.1f}\n"
    )


async def _compare(jobs: int, changes: int) -> dict[str, dict[str, float]]:
    async with ApiServer(prepare_cluster()) as cluster, benchmark_namespace(cluster) as namespace:
        path = PATHS["Job"].format(namespace)
        names = [f"bench-{number}" for number in range(jobs)]
        await by_all_clients(names, lambda name: cluster.create(path, _suspended_job(name)))
        arguments = ("--jobs", str(jobs), "--changes", str(changes), "--follow")
        started = [
            await asyncio.create_subprocess_exec(
                sys.executable, __file__, *arguments, follower, namespace, stdout=asyncio.subprocess.PIPE
            )
            for follower in _FOLLOWERS
        ]
        for each in started:
            assert each.stdout is not None
            await each.stdout.readline()  # It has listed what there is.
        for change in range(1, changes + 1):
            annotated = {"metadata": {"annotations": {_CHANGE: str(change)}}}
            await by_all_clients(names, lambda name, body=annotated: cluster.patch(f"{path}/{name}", body))
        return {name: json.loads((await each.communicate())[0]) for name, each in zip(_FOLLOWERS, started, strict=True)}


def _suspended_job(name: str) -> Object:
    """A Job without pods, of the size that those of the operator have."""
    label, value = _SELECTOR.split("=")
    environment = [{"name": f"VARIABLE_{number}", "value": "a" * 60} for number in range(40)]
    container = {"name": "trainer", "image": "none", "env": environment}
    pod = {"metadata": {"labels": {label: value}}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    return {"metadata": {"name": name, "labels": {label: value}}, "spec": {"suspend": True, "template": pod}}


class _Follower:
    """Follows the Jobs until the last change of each is known, and prints what that took."""

    def __init__(self, jobs: int, last: str) -> None:
        self._jobs, self._last = jobs, last
        self._events = 0
        self._final: set[str] = set()
        self._done = asyncio.Event()

    async def run(self, how: str, namespace: str) -> None:
        connection = await connect(prepare_cluster())
        follow: Callable[[Connection, str], Awaitable[None]] = self._own if how == "own" else self._kopf
        cpu = time.process_time()
        following = asyncio.ensure_future(follow(connection, namespace))
        await asyncio.wait([following, asyncio.ensure_future(self._done.wait())], return_when=asyncio.FIRST_COMPLETED)
        cost = {
            "events": self._events,
            "cpu_milliseconds": 1000 * (time.process_time() - cpu) / self._events,
        }
        sys.stdout.write(json.dumps(cost))
        following.cancel()
        await asyncio.wait([following])
        await connection.aclose()

    async def _own(self, connection: Connection, namespace: str) -> None:
        handler = EventHandler(self._upserted, lambda _: None)
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        await Watch(ClusterClient(connection), path, _SELECTOR, handler).run()

    async def _kopf(self, connection: Connection, namespace: str) -> None:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(login(connection))
        kopf.index("batch", "v1", "jobs", registry=registry)(self._indexed)
        kopf.on.event("batch", "v1", "jobs", registry=registry)(_nothing)
        wanted = settings()
        wanted.watching.label_selectors["batch", "jobs"] = _SELECTOR
        await kopf.operator(registry=registry, settings=wanted, standalone=True, namespaces=[namespace])

    async def _indexed(self, body: kopf.Body, **_: Any) -> None:
        self._upserted(dict(body))

    def _upserted(self, job: Object) -> None:
        self._events += 1
        metadata = job["metadata"]
        if metadata.get("annotations", {}).get(_CHANGE) == self._last:
            self._final.add(metadata["name"])
        if self._events == self._jobs:
            sys.stdout.write("listed\n")
            sys.stdout.flush()
        if len(self._final) == self._jobs:
            self._done.set()


async def _nothing(**_: Any) -> None:
    """As `Handlers.resource_changed`: kopf calls it after the index."""


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    main()
