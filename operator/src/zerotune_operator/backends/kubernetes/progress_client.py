"""`GET /progress` of one launcher over HTTP, whatever answers there: a pod may run anything.

No redirect is followed, nothing is decompressed, no cookie is kept, and neither size nor time of an answer is without
bound: what is read costs the operator at most `limit` bytes and `_SECONDS` seconds.
"""

from __future__ import annotations

from http import HTTPStatus

import aiohttp

_SECONDS = 1.5
"""For the whole of an answer: a launcher answers within milliseconds."""


class ProgressClient:
    """One session for all launchers."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
            # No connection is kept: the next request to a launcher is many seconds away.
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def fetch(self, address: str, port: int, limit: int) -> bytes | None:
        """The body of an answer; None where there is none, or one that no launcher gives: redirected, encoded, longer
        than `limit` bytes. That is no failure: the launcher may be starting, ending, or out of reach.
        """
        host = f"[{address}]" if ":" in address else address
        try:
            async with self._session.get(f"http://{host}:{port}/progress", allow_redirects=False) as answer:
                if answer.status != HTTPStatus.OK or "Content-Encoding" in answer.headers:
                    return None
                return await _bounded(answer.content, limit)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):  # ValueError: headers that are no HTTP.
            return None

    async def close(self) -> None:
        """End the session."""
        await self._session.close()


async def _bounded(content: aiohttp.StreamReader, limit: int) -> bytes | None:
    """All of a body, which may come in many pieces; None where it is longer."""
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) > limit:
            return None
    return bytes(body)
