"""`/metrics`, `/healthz` and `/readyz` of the operator.

kopf's own endpoint (1.45, `liveness_endpoint` with `kopf.on.probe`) is not used: it answers 200 whatever its probes
find, so that it cannot report that a replica is not ready; it serves one path; and it is up only once kopf runs, which
is in the replica that leads: the kubelet would restart those that stand by.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

IsReady = Callable[[], bool]


def build_app(registry: CollectorRegistry, is_ready: IsReady) -> web.Application:
    """The server. `/healthz` answers as long as the event loop runs, `/readyz` once `is_ready` says so."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if is_ready() else web.Response(status=503, text="not yet\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


async def serve(app: web.Application, port: int, tls: ssl.SSLContext | None = None) -> web.AppRunner:
    """Serve on a port of every address, until the runner is cleaned up."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port, ssl_context=tls).start()
    return runner
