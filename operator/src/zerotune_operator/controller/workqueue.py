"""Keys to work on: each by one worker at a time, again when something happened meanwhile, later after an error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from zerotune_operator.controller.slots import Slots
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ZerotuneError

KeyT = TypeVar("KeyT", bound=Hashable)

_LONGEST_BACKOFF_SECONDS = 60.0

_logger = logging.getLogger(__name__)


@dataclass
class _Entry:
    """What is known about a key."""

    due: float | None = None
    """When it is worked on next, by the loop's clock."""
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None
    errors: int = 0
    """How often in a row the work failed."""


class WorkQueue(Generic[KeyT]):
    """A queue that forgets no key and works on none twice at a time.

    Args:
        work: Works on a key; answers in how many seconds it is due again, or None.
        slots: Limits how many keys are worked on at a time.
        is_urgent: Whether a key goes first where too many are due.
    """

    def __init__(
        self,
        work: Callable[[KeyT], Awaitable[float | None]],
        slots: Slots,
        is_urgent: Callable[[KeyT], bool] = lambda _: True,
    ) -> None:
        self._work, self._slots, self._is_urgent = work, slots, is_urgent
        self._entries: dict[KeyT, _Entry] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: KeyT, after: float = 0.0) -> None:
        """Work on `key` in `after` seconds, or earlier where it is due earlier; never in a closed queue."""
        if self._closed:
            return
        entry = self._entries.setdefault(key, _Entry())
        due = asyncio.get_running_loop().time() + after
        if entry.due is not None and entry.due <= due:
            return
        entry.due = due
        if entry.task is None:
            self._schedule(key, entry)

    async def close(self) -> None:
        """Cancel what is due and what runs: the replica that leads next makes up for it."""
        self._closed = True
        running = [entry.task for entry in self._entries.values() if entry.task]
        for entry in self._entries.values():
            entry.due = None
            if entry.timer:
                entry.timer.cancel()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _schedule(self, key: KeyT, entry: _Entry) -> None:
        assert entry.due is not None
        if entry.timer:
            entry.timer.cancel()
        entry.timer = asyncio.get_running_loop().call_at(entry.due, self._start, key, entry)

    def _start(self, key: KeyT, entry: _Entry) -> None:
        entry.due, entry.timer = None, None
        entry.task = asyncio.get_running_loop().create_task(self._run(key, entry))

    async def _run(self, key: KeyT, entry: _Entry) -> None:
        await self._slots.acquire(urgent=self._is_urgent(key))
        try:
            again = None if self._closed else await self._attempt(key, entry)
        finally:
            self._slots.release()
        entry.task = None
        if again is not None:
            self.add(key, again)
        if entry.due is None:
            del self._entries[key]
        elif entry.timer is None:
            self._schedule(key, entry)

    async def _attempt(self, key: KeyT, entry: _Entry) -> float | None:
        try:
            again = await self._work(key)
        except Exception as error:
            entry.errors += 1
            pause = min(2.0 ** (entry.errors - 1), _LONGEST_BACKOFF_SECONDS)
            trace = not isinstance(error, ZerotuneError)  # An expected error needs no traceback.
            message = "%s: failed %s in a row, again in %gs: %s"
            _logger.error(message, key, counted(entry.errors, "time"), pause, error, exc_info=trace)
            return pause
        entry.errors = 0
        return again
