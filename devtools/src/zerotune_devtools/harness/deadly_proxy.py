"""A way to the API server on which the operator dies: it kills who asked, right before or right after a write.

    before   the write is never seen by the API server
    after    the API server has carried it out, and the operator never learns of it

It is also the Hub of a small model, at `/hub`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from aiohttp import ClientError, ClientResponse, web
from yarl import URL

from zerotune_devtools.harness.api_server import ApiServer

WRITES = {"POST", "PUT", "PATCH", "DELETE"}
OF_THE_CONNECTION = {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "authorization"}
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 128,
    "max_position_embeddings": 512,
}


class Write(NamedTuple):
    """A request that changes something."""

    number: int
    """From 1, over the whole life; writes that were not carried out count too."""
    identity: tuple[str, str, int]
    """Method, path, and how many there were before; that of a write which can be repeated is always the same."""


@dataclass(frozen=True)
class Never:
    """An undisturbed life."""

    def __call__(self, write: Write) -> bool:  # noqa: ARG002 the others read it
        """Whether the operator dies at it: no."""
        return False


@dataclass(frozen=True)
class AtWrite:
    """Death at one write."""

    number: int

    def __call__(self, write: Write) -> bool:
        """Whether it is this one."""
        return write.number == self.number


@dataclass(frozen=True)
class AtEveryWrite:
    """Death at every write, once at each."""

    seen: set[tuple[str, str, int]] = field(default_factory=set)

    def __call__(self, write: Write) -> bool:
        """Whether it was not seen before."""
        new = write.identity not in self.seen
        self.seen.add(write.identity)
        return new


class DeadlyProxy:
    """A server on this machine that passes everything on to the API server.

    Args:
        cluster: Where to.
        kill: Kills the operator.
        is_due: Whether it dies at a write.
        when: Before the write, or after it.
    """

    def __init__(
        self,
        cluster: ApiServer,
        kill: Callable[[], None],
        is_due: Callable[[Write], bool],
        when: Literal["before", "after"] = "after",
    ) -> None:
        self._cluster, self._kill, self._is_due, self._when = cluster, kill, is_due, when
        self._open = asyncio.Event()
        self._open.set()
        self._done: Counter[tuple[str, str]] = Counter()
        self.writes = 0
        self.deaths: list[str] = []
        """The writes at which the operator died."""

    async def __aenter__(self) -> DeadlyProxy:
        await self._serve(free_port())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _serve(self, port: int) -> None:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_get("/hub/{model:.*}/resolve/{revision}/config.json", _model)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        # What a dead operator asked for is watched no longer.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True).start()
        self._port = port

    @property
    def url(self) -> str:
        """Where an operator finds it."""
        return f"http://127.0.0.1:{self._port}"

    async def interrupt(self, seconds: float) -> None:
        """Drop every connection, and take none for so long."""
        await self._runner.cleanup()
        await asyncio.sleep(seconds)
        await self._serve(self._port)

    def hold(self) -> None:
        """Take requests from now on, and answer none."""
        self._open.clear()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        await self._open.wait()
        write = self._write(request)
        if write and self._when == "before" and self._is_due(write):
            return self._die(request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in OF_THE_CONNECTION}
        url = URL(self._cluster.url + request.raw_path, encoded=True)
        try:
            body = await request.read() or None
            async with self._cluster.session.request(request.method, url, headers=headers, data=body) as answer:
                if write and answer.status < 300:
                    self._done[request.method, request.path] += 1
                    if self._when == "after" and self._is_due(write):
                        return self._die(request)
                return await _answer(request, answer)
        except ClientError as error:
            return web.Response(status=503, text=str(error))

    def _write(self, request: web.Request) -> Write | None:
        """The write that a request is. The Lease is left out: no job is in it."""
        if request.method not in WRITES or "/leases" in request.path:
            return None
        self.writes += 1
        repeats = "apply-patch" in request.headers.get("Content-Type", "")
        before = 0 if repeats else self._done[request.method, request.path]
        return Write(self.writes, (request.method, request.path, before))

    def _die(self, request: web.Request) -> web.Response:
        self._kill()
        self.deaths.append(f"{request.method} {request.path}")
        return web.Response(status=503)


async def _answer(request: web.Request, answer: ClientResponse) -> web.StreamResponse:
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in OF_THE_CONNECTION}
    passed = web.StreamResponse(status=answer.status, headers=headers)
    await passed.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            await passed.write(chunk)
        await passed.write_eof()
    except ClientError:
        # What has begun cannot become an error: who asked sees it break off, as it did here.
        if request.transport is not None:
            request.transport.abort()
    return passed


async def _model(_: web.Request) -> web.Response:
    return web.json_response(MODEL)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
