"""Waiting until every name of a hostfile resolves. Torch-free.

A pod's name is in the cluster's DNS once the pod has an address, so the names of pods that wait for a node may take
days. Their common domain is that of the job's headless Service, and it resolves as soon as this pod runs: where it does
not, DNS itself is out of reach or the Service was deleted, which does not mend itself.
"""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from zerotune_trainer.config import Launch
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import Failure, NameResolutionError
from zerotune_trainer.failures import describe

REPORT_AFTER_SECONDS = 30.0
"""For how long a name may be unknown before it is reported: DNS takes a while to learn of a new pod."""

_LOOKUPS = 16
_POLL_SECONDS = 0.5
_LOG_SECONDS = 5.0

_logger = logging.getLogger(__name__)


def wait_for_names(names: Sequence[str], launch: Launch, report: Callable[[Failure | None], None]) -> None:
    """Wait until every name resolves, the node's own included, which may be unknown for a moment.

    Args:
        names: The hosts.
        launch: `name_resolution_timeout_seconds` bounds the wait, and `hang_timeout_seconds` the time in which not even
            the domain of the missing names resolves.
        report: Gets what is waited for once it takes long, and None when all names resolve.

    Raises:
        NameResolutionError: some do not resolve in time.
    """
    lookups = _Lookups()
    report_after = min(REPORT_AFTER_SECONDS, launch.hang_timeout_seconds / 2)
    began = domain_seen = time.monotonic()
    logged = -math.inf
    try:
        while names := lookups.unresolved(names):
            now = time.monotonic()
            lost = lookups.unresolved(_domains(names))
            domain_seen = domain_seen if lost else now
            error = _error(names, lost)
            if (
                now - began >= launch.name_resolution_timeout_seconds
                or now - domain_seen >= launch.hang_timeout_seconds
            ):
                raise error
            if now - began >= report_after:
                report(describe(error))
            if now - logged >= _LOG_SECONDS:
                logged = now
                _logger.info("waiting: %s", error.message)
            time.sleep(_POLL_SECONDS)
    finally:
        lookups.close()
    report(None)


def resolves(name: str) -> bool:
    """Whether the name has an address now."""
    try:
        socket.getaddrinfo(name, None)
    except (socket.gaierror, UnicodeError):  # The latter of an empty label, or one that is too long.
        return False
    return True


class _Lookups:
    """Look-ups in threads: a name server that does not answer holds one up for many seconds, and a signal too."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_LOOKUPS)
        self._pending: dict[str, Future[bool]] = {}

    def unresolved(self, names: Sequence[str]) -> list[str]:
        """Those of the names that do not resolve, or not within a moment: the look-up goes on for the next call."""
        for name in names:
            if name not in self._pending:
                self._pending[name] = self._pool.submit(resolves, name)
        deadline = time.monotonic() + _POLL_SECONDS
        return [name for name in names if not self._resolves(name, deadline)]

    def close(self) -> None:
        """End what has not begun; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _resolves(self, name: str, deadline: float) -> bool:
        try:
            resolved = self._pending[name].result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            return False
        del self._pending[name]
        return resolved


def _domains(names: Sequence[str]) -> list[str]:
    """What stands behind the first dot of each name; a name without a dot is its own domain."""
    return sorted({name.partition(".")[2] or name for name in names})


def _error(unknown: list[str], lost: list[str]) -> NameResolutionError:
    do = "does" if len(unknown) == 1 else "do"
    message = f"{counted(len(unknown), 'name')} of the hostfile {do} not resolve: {_some(unknown)}"
    if not lost:
        return NameResolutionError(message, "their domain resolves, so DNS works: see that the pods of these hosts run")
    return NameResolutionError(
        f"{message}; nor does their domain {_some(lost)}",
        "see that the pods reach the cluster's DNS (dnsPolicy: ClusterFirst, and no NetworkPolicy against port 53), and"
        " that the headless Service of these names exists, selects the pods and has publishNotReadyAddresses: true",
    )


def _some(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
