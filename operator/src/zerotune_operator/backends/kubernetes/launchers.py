"""Asking the launchers of a job for their progress."""

from __future__ import annotations

import aiohttp
from pydantic import ValidationError

from zerotune_trainer.progress import NodeProgress

_TIMEOUT = aiohttp.ClientTimeout(total=3)
_LONGEST_ANSWER = 4 * 1024 * 1024


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
                return NodeProgress.model_validate_json(await answer.content.read(_LONGEST_ANSWER))
        except (TimeoutError, aiohttp.ClientError, OSError, ValidationError):
            return None

    async def close(self) -> None:
        """End the session."""
        await self._session.close()
