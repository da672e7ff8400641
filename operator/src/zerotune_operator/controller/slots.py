"""Limits how many reconciles run at a time; the urgent ones go first."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class Slots:
    """A semaphore with priorities. What is not urgent waits as if it had come some seconds later.

    Args:
        number: How many may hold a slot at a time.
        patience: The seconds.
    """

    def __init__(self, number: int = 16, patience: float = 10.0) -> None:
        self._free, self._patience = number, patience
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        """A heap; the number decides between those that came at the same time."""
        self._arrivals = count()

    async def acquire(self, *, urgent: bool) -> None:
        """Wait for a slot."""
        if self._free:  # Then nothing waits.
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        came = loop.time() + (0.0 if urgent else self._patience)
        heapq.heappush(self._waiting, (came, next(self._arrivals), place))
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self.release()  # It was handed over at the same moment.
            raise

    def release(self) -> None:
        """Hand a slot to the next that waits."""
        while self._waiting:
            _, _, place = heapq.heappop(self._waiting)
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
