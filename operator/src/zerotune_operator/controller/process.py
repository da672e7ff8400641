"""The operator as a process: standing by, leading, ending."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Collection, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.clock import ClusterClock
from zerotune_operator.backends.kubernetes.cluster import Cluster
from zerotune_operator.backends.kubernetes.connection import connect
from zerotune_operator.backends.kubernetes.events import WarningEvents
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_operator.controller.certificates import Certificates
from zerotune_operator.controller.handlers import operate
from zerotune_operator.controller.health import build_app, serve
from zerotune_operator.controller.leadership import Lease
from zerotune_operator.controller.metrics import Metrics
from zerotune_operator.controller.namespaces import open_namespaces
from zerotune_operator.controller.reconcile import Reconciler
from zerotune_operator.controller.slots import Slots
from zerotune_operator.controller.webhook import build_app as build_webhook
from zerotune_operator.controller.workqueue import WorkQueue

_MOST_LEVELS = 10_000
"""The API server accepts no object that is nested deeper."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Admission:
    """The webhook."""

    port: int
    certificates: Path
    """Folder with `tls.crt` and `tls.key`."""


@dataclass(frozen=True)
class Settings:
    """What the operator is started with."""

    installation: Installation
    operator_namespace: str
    """Where its Lease is."""
    namespaces: Collection[str] = ()
    """Those it works in; none stands for the whole cluster."""
    lease: str = "zerotune-operator"
    progress_interval: float = 10.0
    """Seconds between two observations of a job that runs."""
    metrics_port: int = 8080
    admission: Admission | None = None
    """None: no webhook is served."""


async def run(settings: Settings) -> int:
    """Run until a signal or until the Lease is lost; the exit code.

    Raises:
        ZerotuneError: the operator cannot work here.
    """
    _collect_seldom()
    # The parser of JSON is recursive, in kopf and here: an object that it cannot read would end the process.
    sys.setrecursionlimit(_MOST_LEVELS + 2_000)
    cache = Cache()
    metrics, ready, leads = Metrics(cache), asyncio.Event(), asyncio.Event()
    async with AsyncExitStack() as stack:
        connection = await connect()
        stack.push_async_callback(connection.aclose)
        client = ClusterClient(connection, metrics.request)

        async def work() -> None:
            leads.set()
            metrics.leader.set(1)
            await _work(settings, cache, client, metrics, ready)

        app = build_app(metrics.registry, lambda: ready.is_set() or not leads.is_set())
        stack.push_async_callback((await serve(app, settings.metrics_port)).cleanup)
        if settings.admission is not None:
            await _admit(settings.admission, settings.installation, stack)
        identity = f"{socket.gethostname()}-{os.getpid()}"
        lease = Lease(client, settings.lease, settings.operator_namespace, identity)
        return await _until_signal(lease.lead(work))


def _collect_seldom() -> None:
    """What is imported stays, and need not be traversed again; what the API server sends comes in large pieces without
    cycles, and by default each of them would start a collection.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def _until_signal(leading: Coroutine[None, None, bool]) -> int:
    led, stop = asyncio.ensure_future(leading), _stop_signal()
    try:
        await asyncio.wait((led, stop), return_when=asyncio.FIRST_COMPLETED)
        # Work that has ended was asked to, by a signal that kopf takes over while it runs.
        return 0 if stop.done() or led.result() else 1
    finally:
        led.cancel()
        await asyncio.gather(led, return_exceptions=True)


async def _admit(admission: Admission, installation: Installation, stack: AsyncExitStack) -> None:
    """Serve the webhook, on every replica."""
    certificates = Certificates(admission.certificates)
    server = await serve(build_webhook(installation), admission.port, certificates.context)
    stack.push_async_callback(server.cleanup)
    watching = asyncio.ensure_future(certificates.watch())
    stack.callback(watching.cancel)


async def _work(
    settings: Settings, cache: Cache, client: ClusterClient, metrics: Metrics, ready: asyncio.Event
) -> None:
    await client.require_kinds()
    launchers = Launchers(settings.progress_interval, lambda key: queue.add(key))
    clock = ClusterClock(client)
    await clock.start()
    cluster = Cluster(cache, client, WarningEvents(client), launchers, settings.installation, clock, clock.confirm)
    reconciler = Reconciler(cluster, settings.progress_interval, metrics.rejected)

    async def reconcile(key: Key) -> float | None:
        began = time.monotonic()
        result = "failed"
        try:
            again = await reconciler.reconcile(key)
            result = "done"
            return again
        finally:
            metrics.reconciled(key.kind, result, time.monotonic() - began)

    def has_yet_to_begin(key: Key) -> bool:
        return cache.resource(key) is not None and not cache.children(key).jobs

    queue = WorkQueue(reconcile, Slots(), has_yet_to_begin)
    try:
        namespaces = await open_namespaces(client, settings.namespaces) if settings.namespaces else ()
        await operate(cache, queue, client, namespaces, ready)
    finally:
        await launchers.close()


def _stop_signal() -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _resolve, stop)
    return stop


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
