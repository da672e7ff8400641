"""Who works at a time: so many, and the urgent first."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class Slots:
    """So many may work at a time. Who is not urgent waits as if he had come some seconds later.

    Args:
        number: How many.
        patience: The seconds.
    """

    def __init__(self, number: int = 16, patience: float = 10.0) -> None:
        self._free, self._patience = number, patience
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        """A heap; the number decides between those that came at the same time."""
        self._arrivals = count()

    async def take(self, *, urgent: bool) -> None:
        """Wait for a slot."""
        if self._free:  # Then nobody waits.
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
                self.give()  # It came at the same moment.
            raise

    def give(self) -> None:
        """Leave a slot to the next."""
        while self._waiting:
            _, _, place = heapq.heappop(self._waiting)
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
