"""Asking the launchers of a job for their progress."""

from __future__ import annotations

import asyncio
from datetime import datetime

import aiohttp
from pydantic import ValidationError

from zerotune_operator.backends.kubernetes import pod_state
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_trainer.progress import NodeProgress

_TIMEOUT = aiohttp.ClientTimeout(total=3)
_STUCK_SECONDS = 60
"""For how long a launcher may say nothing, or the same, before the others of its job are asked."""
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

    async def of_pods(self, mine: tuple[Object, ...], port: int, now: datetime) -> dict[str, NodeProgress]:
        """The answer of the first node; of every node where that one does not answer or makes no steps for long.

        Nobody is asked as long as a pod has yet to start: until then the others wait for its name.
        """
        if any(not pod_state.is_running(pod) and not pod_state.has_ended(pod) for pod in mine):
            return {}
        running = [pod for pod in mine if pod_state.is_running(pod) and pod["status"].get("podIP")]
        first = [pod for pod in running if pod_state.index(pod) == 0]
        answers = await self._answers(first, port)
        if first and (all(_gets_on(answer) for answer in answers.values()) if answers else _is_fresh(first[0], now)):
            return answers
        return answers | await self._answers([pod for pod in running if pod not in first], port)

    async def _answers(self, asked: list[Object], port: int) -> dict[str, NodeProgress]:
        found = await asyncio.gather(*(self.progress(pod["status"]["podIP"], port) for pod in asked))
        return {pod_state.name(pod): answer for pod, answer in zip(asked, found, strict=True) if answer is not None}

    async def close(self) -> None:
        """End the session."""
        await self._session.close()


def _is_fresh(pod: Object, now: datetime) -> bool:
    """Whether a pod that says nothing may be on its way: a launcher answers within seconds."""
    seconds = pod_state.seconds_running(pod, now)
    return seconds is not None and seconds < _STUCK_SECONDS


def _gets_on(answer: NodeProgress) -> bool:
    return all(rank.step_age_seconds < _STUCK_SECONDS for rank in answer.ranks)


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """All of an answer, which may come in many pieces; of one that is too long what is no JSON."""
    content = bytearray()
    async for piece in answer.content.iter_any():
        content += piece
        if len(content) > _LONGEST_ANSWER:
            break
    return bytes(content[:_LONGEST_ANSWER])
