"""Launchers answer over a network: in pieces, or not at all."""

from __future__ import annotations

import asyncio

from zerotune_operator.backends.kubernetes.launchers import Launchers
from zerotune_trainer.progress import NodeProgress, TopologyEntry

RANKS = 512
WHOLE = NodeProgress(
    job="tune",
    attempt=0,
    host="tune-a0-0",
    ranks=[],
    topology=[
        TopologyEntry(rank=rank, local_rank=rank % 8, host=f"tune-a0-{rank // 8}", hostname="h", device="cuda:0", pid=1)
        for rank in range(RANKS)
    ],
)


def test_an_answer_that_comes_in_pieces_is_read_to_its_end() -> None:
    content = WHOLE.model_dump_json(by_alias=True).encode()
    assert asyncio.run(_asked([content[:14480], content[14480:]])) == WHOLE


def test_half_of_an_answer_is_none() -> None:
    content = WHOLE.model_dump_json(by_alias=True).encode()
    assert asyncio.run(_asked([content[:14480]])) is None


async def _asked(pieces: list[bytes]) -> NodeProgress | None:
    """What is made of an answer that comes in these pieces, after which the connection ends."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.close()

    launchers = Launchers()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        found = await launchers.progress("127.0.0.1", server.sockets[0].getsockname()[1])
    await launchers.close()
    return found
