"""Asking the launchers of a job for their progress."""

from __future__ import annotations

import aiohttp
from pydantic import ValidationError

from zerotune_trainer.progress import NodeProgress

_TIMEOUT = aiohttp.ClientTimeout(total=3)
_LONGEST_ANSWER = 16 * 1024 * 1024
"""Bytes; where each of 32,768 ranks runs is about 5 million. A pod that is not ours may say anything."""


class Launchers:
    """The line to the launchers: one session for all jobs."""

    def __init__(self) -> None:
        # No connection is kept: the next look at a job is many seconds away.
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, connector=aiohttp.TCPConnector(force_close=True))

    async def progress(self, address: str, port: int) -> NodeProgress | None:
        """The answer of the launcher at an address; None where it gives none, which is no failure: it may be starting,
        ending, or out of reach.
        """
        host = f"[{address}]" if ":" in address else address
        try:
            async with self._session.get(f"http://{host}:{port}/progress") as answer:
                return NodeProgress.model_validate_json(await _whole(answer))
        except (TimeoutError, aiohttp.ClientError, OSError, ValidationError):
            return None

    async def close(self) -> None:
        """End the session."""
        await self._session.close()


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """All of an answer, which may come in many pieces; of one that is too long what is no JSON."""
    content = bytearray()
    async for piece in answer.content.iter_any():
        content += piece
        if len(content) > _LONGEST_ANSWER:
            break
    return bytes(content[:_LONGEST_ANSWER])
