"""Keys to work on: each by one worker at a time, again when something happened meanwhile, later after an error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from zerotune_operator.controller.slots import Slots
from zerotune_trainer.errors import ZerotuneError

KeyT = TypeVar("KeyT", bound=Hashable)

_LONGEST_BACKOFF_SECONDS = 60.0

_logger = logging.getLogger(__name__)


@dataclass
class _Turn:
    """What is known about a key."""

    due: float | None = None
    """When its next turn is, by the loop's clock."""
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None
    errors: int = 0
    """Turns in a row that failed."""


class WorkQueue(Generic[KeyT]):
    """A queue that forgets no key and works on none twice at a time.

    Args:
        work: Does a turn of a key; answers in how many seconds the next one is due, or None.
        slots: Limits how many keys are worked on at a time.
        is_urgent: Says which keys go first where too many are due.
    """

    def __init__(
        self,
        work: Callable[[KeyT], Awaitable[float | None]],
        slots: Slots,
        is_urgent: Callable[[KeyT], bool] = lambda _: True,
    ) -> None:
        self._work, self._slots, self._is_urgent = work, slots, is_urgent
        self._turns: dict[KeyT, _Turn] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._turns)

    def add(self, key: KeyT, after: float = 0.0) -> None:
        """Have a turn of `key` in `after` seconds, or earlier where one is due earlier; none in a closed queue."""
        if self._closed:
            return
        turn = self._turns.setdefault(key, _Turn())
        due = asyncio.get_running_loop().time() + after
        if turn.due is not None and turn.due <= due:
            return
        turn.due = due
        if turn.task is None:
            self._schedule(key, turn)

    async def close(self) -> None:
        """Drop what is due, and cut off the turns that run: whoever leads next makes up for them."""
        self._closed = True
        running = [turn.task for turn in self._turns.values() if turn.task]
        for turn in self._turns.values():
            turn.due = None
            if turn.timer:
                turn.timer.cancel()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _schedule(self, key: KeyT, turn: _Turn) -> None:
        assert turn.due is not None
        if turn.timer:
            turn.timer.cancel()
        turn.timer = asyncio.get_running_loop().call_at(turn.due, self._start, key, turn)

    def _start(self, key: KeyT, turn: _Turn) -> None:
        turn.due, turn.timer = None, None
        turn.task = asyncio.get_running_loop().create_task(self._take(key, turn))

    async def _take(self, key: KeyT, turn: _Turn) -> None:
        await self._slots.take(urgent=self._is_urgent(key))
        try:
            again = None if self._closed else await self._tried(key, turn)
        finally:
            self._slots.give()
        turn.task = None
        if again is not None:
            self.add(key, again)
        if turn.due is None:
            del self._turns[key]
        elif turn.timer is None:
            self._schedule(key, turn)

    async def _tried(self, key: KeyT, turn: _Turn) -> float | None:
        try:
            again = await self._work(key)
        except Exception as error:
            turn.errors += 1
            pause = min(2.0 ** (turn.errors - 1), _LONGEST_BACKOFF_SECONDS)
            # What is foreseen needs no traceback.
            trace = not isinstance(error, ZerotuneError)
            said = "%s: failed %d times in a row, again in %gs: %s"
            _logger.error(said, key, turn.errors, pause, error, exc_info=trace)
            return pause
        turn.errors = 0
        return again
