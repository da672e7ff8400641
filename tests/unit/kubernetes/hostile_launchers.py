"""HTTP servers that are no launchers, and one that is: what a pod may answer at `/progress`."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from zerotune_trainer.progress import NodeProgress, Progress, RankProgress

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Writes what a server answers."""

HONEST = NodeProgress(
    job="tune",
    attempt=0,
    host="tune-a0-0",
    ranks=[RankProgress(rank=0, phase="training", step=3, heartbeat_age_seconds=0, step_age_seconds=0)],
    progress=Progress(step=3, total=10),
)
BODY = HONEST.model_dump_json(by_alias=True, exclude_none=True).encode()


@asynccontextmanager
async def serving(answer: Answer, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server on a free port, which is given."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        writer.close()

    server = await asyncio.start_server(handle, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def honest(writer: asyncio.StreamWriter) -> None:
    """A launcher's answer."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY))
    await writer.drain()


async def gzip_bomb(writer: asyncio.StreamWriter) -> None:
    """An answer that is 200 times as large once decompressed."""
    bomb = gzip.compress(b" " * (8 << 20) + BODY)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(bomb), bomb))
    await writer.drain()


def redirect(port: int) -> Answer:
    """A server that sends the operator elsewhere."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        place = b"http://127.0.0.1:%d/progress" % port
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % place)
        await writer.drain()

    return answer


async def slow_drip(writer: asyncio.StreamWriter) -> None:
    """A byte ten times a second, without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.1)


async def endless(writer: asyncio.StreamWriter) -> None:
    """As much as is taken."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


async def endless_headers(writer: asyncio.StreamWriter) -> None:
    """A head without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Header: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def silent(writer: asyncio.StreamWriter) -> None:
    """A connection that stays open, and says nothing."""
    await asyncio.sleep(60)
