"""The time by which jobs are deleted or fail: no clock that is set while the operator runs can bring that forward."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from zerotune_operator.backends.kubernetes.client import ClusterClient

_TOLERANCE = timedelta(seconds=5)
"""The API server gives whole seconds, and there may be several whose clocks differ a little."""

_logger = logging.getLogger(__name__)


def _seconds_since_boot() -> float:
    """Unlike the wall clock it is never set; unlike the monotonic clock of Linux it goes on while a machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class ClusterClock:
    """The time of the API server as it was at the start, and the seconds since then.

    Whether the clock of the operator's machine is right, or is set, does not matter. A clock of the API server that was
    ahead at the start is found out before a step that cannot be taken back, by `confirm`: of two observations the
    earlier one counts.

    Args:
        client: The API server.
        seconds: A clock that is never set.
    """

    def __init__(self, client: ClusterClient, seconds: Callable[[], float] = _seconds_since_boot) -> None:
        self._client, self._seconds = client, seconds
        self._start = datetime.fromtimestamp(0, UTC)

    def __call__(self) -> datetime:
        """The time, in the whole seconds that Kubernetes stores."""
        return (self._start + timedelta(seconds=self._seconds())).replace(microsecond=0)

    async def start(self) -> None:
        """Take over the time of the API server.

        Raises:
            TemporaryError: it does not answer.
        """
        self._set(await self._client.time())
        ahead = datetime.now(UTC) - self()
        if abs(ahead) > _TOLERANCE:
            _logger.warning(
                "the clock of this machine is %gs ahead of the API server's, which counts", ahead.total_seconds()
            )

    async def confirm(self) -> None:
        """Ask the API server again, and go back where it is earlier there.

        Raises:
            TemporaryError: it does not answer.
        """
        now = await self._client.time()
        if now < self() - _TOLERANCE:
            _logger.warning("it is %s at the API server and %s here: the earlier one counts", now, self())
            self._set(now)

    def _set(self, now: datetime) -> None:
        self._start = now - timedelta(seconds=self._seconds())
