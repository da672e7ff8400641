"""Files are written while the engine goes on: waiting for a disk or a store is no time of a device."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Committer:
    """Writes one shard at a time, in a thread. A shard that was not written when its rank died is generated again."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "commit")
        self._pending: Future[None] | None = None

    def submit(self, write: Callable[[], None]) -> None:
        """Start writing a shard, once the one before it is written.

        Raises:
            ZerotuneError, OSError: that one cannot be written.
        """
        self.wait()
        self._pending = self._pool.submit(write)

    def wait(self) -> None:
        """Wait until all is written that was submitted.

        Raises:
            ZerotuneError, OSError: it cannot be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()
