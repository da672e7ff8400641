"""Polls launchers apart from the reconcile workers, which read the newest known answer and never wait for a pod.

A reconcile says whom it wants to hear of (`want`); each such target is polled every `interval` seconds until nobody
wants it any more. Requests in flight have one global budget, and namespaces are served in turn, so that silent or slow
pods of one tenant do not delay the progress of another's jobs:

    answers    the last request was answered        may use the whole budget
    new        it has yet to be asked               at most half of it
    silent     it did not answer the last time      at most a quarter, and twice as rarely after each silence
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from zerotune_operator.backends.kubernetes.cache import Key
from zerotune_operator.backends.kubernetes.fair_queue import FairQueue
from zerotune_trainer.progress import NodeProgress

_IN_FLIGHT = 128
"""Requests; each may hold one answer, 64 KiB of most jobs."""
_LONGEST_BACKOFF_SECONDS = 120.0
_WANTED_INTERVALS = 6
"""For so many intervals a target is polled that no reconcile has asked for again."""


class Target(NamedTuple):
    """A launcher."""

    job: Key
    pod: str
    """Its name, and the address that it has: another pod of that name is another target."""
    address: str
    port: int
    limit: int
    """Bytes that its answer may have."""


Ask = Callable[[Target], Awaitable[NodeProgress | None]]
"""Gives the answer of a launcher, or None; never raises."""


@dataclass(eq=False)
class _Lane:
    """Targets that are due, and how many of them may be asked at a time."""

    limit: int
    due: FairQueue[_Polled] = field(default_factory=lambda: FairQueue())
    in_flight: int = 0


@dataclass(eq=False)
class _Polled:
    """What is known of a target."""

    target: Target
    lane: _Lane
    wanted_at: float
    answer: NodeProgress | None = None
    silences: int = 0
    timer: asyncio.TimerHandle | None = None


class Poller:
    """Keeps the newest answers of launchers.

    Args:
        ask: Makes one request.
        interval: Seconds between two requests to a launcher that answers.
        answered: Called with the job whose launcher has answered.
    """

    def __init__(self, ask: Ask, interval: float, answered: Callable[[Key], None]) -> None:
        self._ask, self._interval, self._answered = ask, interval, answered
        self._answering, self._new, self._silent = _Lane(_IN_FLIGHT), _Lane(_IN_FLIGHT // 2), _Lane(_IN_FLIGHT // 4)
        self._polled: dict[Target, _Polled] = {}
        self._requests: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._polled)

    def want(self, target: Target) -> NodeProgress | None:
        """The newest answer of a target, which is polled from now on; None where it has given none lately."""
        now = asyncio.get_running_loop().time()
        known = self._polled.get(target)
        if known is None:
            known = self._polled[target] = _Polled(target, self._new, now)
            self._is_due(known)
        known.wanted_at = now
        return known.answer

    def has_asked(self, target: Target) -> bool:
        """Whether a target has had the time to answer."""
        return target in self._polled and self._polled[target].lane is not self._new

    async def close(self) -> None:
        """Stop polling."""
        for known in self._polled.values():
            if known.timer is not None:
                known.timer.cancel()
        self._polled.clear()
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)

    def _is_due(self, known: _Polled) -> None:
        known.timer = None
        now = asyncio.get_running_loop().time()
        if now - known.wanted_at > _WANTED_INTERVALS * self._interval:
            del self._polled[known.target]
            return
        known.lane.due.put(known.target.job.namespace, known)
        self._fill()

    def _fill(self) -> None:
        """Start requests as far as the budget allows: of those that answer first."""
        for lane in (self._answering, self._new, self._silent):
            while len(self._requests) < _IN_FLIGHT and lane.in_flight < lane.limit:
                known = lane.due.get()
                if known is None:
                    break
                lane.in_flight += 1
                request = asyncio.get_running_loop().create_task(self._poll(known))
                self._requests.add(request)
                request.add_done_callback(partial(self._is_done, lane))

    def _is_done(self, lane: _Lane, request: asyncio.Task[None]) -> None:
        self._requests.discard(request)
        lane.in_flight -= 1
        if self._polled:
            self._fill()

    async def _poll(self, known: _Polled) -> None:
        known.answer = await self._ask(known.target)
        known.silences = 0 if known.answer else known.silences + 1
        known.lane = self._silent if known.silences else self._answering
        known.timer = asyncio.get_running_loop().call_later(self._pause(known.silences), self._is_due, known)
        if known.answer:
            self._answered(known.target.job)

    def _pause(self, silences: int) -> float:
        """Seconds until a target is asked again; the first silence may be that of a launcher that starts."""
        longest = max(self._interval, _LONGEST_BACKOFF_SECONDS)
        return min(self._interval * 2.0 ** min(max(0, silences - 1), 16), longest)
