"""The names of a hostfile as addresses: who I am, and waiting until all names are known. Torch-free."""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

from zerotune_trainer.errors import InputMissingError, TemporaryError
from zerotune_trainer.hostfile import Host, Hostfile
from zerotune_trainer.launching.identity import host_by_index

HOST_VARIABLE = "ZEROTUNE_HOST"

_LOOKUPS = 16
_POLL_SECONDS = 0.5
_REPORT_SECONDS = 5.0

_logger = logging.getLogger(__name__)


def this_host(hostfile: Hostfile, name: str | None = None) -> Host:
    """The host this process runs on: by the name given, else `ZEROTUNE_HOST`, else `ZEROTUNE_HOST_INDEX`, else the
    machine's own name.

    Raises:
        ConfigurationError: the hostfile does not name it.
        InternalError: it has no host of that index.
    """
    given = name or os.environ.get(HOST_VARIABLE)
    by_index = None if given else host_by_index(hostfile)
    return by_index or hostfile.host(given or socket.gethostname())


def wait_for_names(names: Sequence[str], timeout_seconds: float) -> None:
    """Wait until every name resolves, the node's own included, which may be unknown for a moment.

    Raises:
        InputMissingError: some do not resolve in time.
    """
    began, reported = time.monotonic(), -math.inf
    # Threads, because a name server that does not answer holds up one look-up for many seconds, and a signal too.
    lookups = ThreadPoolExecutor(_LOOKUPS)
    try:
        while unknown := _unresolved(names, lookups):
            now = time.monotonic()
            if now - began >= timeout_seconds:
                raise _never_resolved(unknown, timeout_seconds)
            if now - reported >= _REPORT_SECONDS:
                reported = now
                _logger.info("waiting up to %gs for %d names: %s", timeout_seconds, len(unknown), _some(unknown))
            time.sleep(_POLL_SECONDS)
            names = unknown
    finally:
        lookups.shutdown(wait=False, cancel_futures=True)


def resolves(name: str) -> bool:
    """Whether the name has an address now."""
    try:
        socket.getaddrinfo(name, None)
    except socket.gaierror:
        return False
    return True


def address_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address of a name that resolves."""
    return ipaddress.ip_address(socket.getaddrinfo(name, None)[0][4][0])


def listening_address(name: str) -> str:
    """The address to serve a host on: its own where that is a loopback address, so that several hosts of one machine
    can use the same port; else every address of its family, as pods have more than their name's.
    """
    address = address_of(name)
    if address.is_loopback:
        return str(address)
    return "0.0.0.0" if address.version == 4 else "::"  # noqa: S104 a pod is reached from outside


def require_free_port(port: int, purpose: str) -> None:
    """See that nothing listens on a port of this machine.

    Args:
        port: The port.
        purpose: What it is for.

    Raises:
        TemporaryError: something does.
    """
    try:
        # torch's store listens on every address.
        socket.create_server(("", port)).close()
    except OSError as error:
        raise port_in_use(port, purpose, error) from error


def port_in_use(port: int, purpose: str, error: OSError) -> TemporaryError:
    """The error of a port that cannot be had."""
    # Not `error.strerror`, to which `create_server` adds the address.
    reason = os.strerror(error.errno) if error.errno else str(error)
    return TemporaryError(
        f"port {port}, {purpose}, cannot be used on this host: {reason}",
        f"stop what uses it (`ss -ltnp sport = :{port}`), or run again: `zerotune run` chooses another port each time",
    )


def _unresolved(names: Sequence[str], lookups: Executor) -> list[str]:
    return [name for name, known in zip(names, lookups.map(resolves, names), strict=True) if not known]


def _never_resolved(names: list[str], seconds: float) -> InputMissingError:
    return InputMissingError(
        f"{len(names)} names of the hostfile did not resolve within {seconds:g}s: {_some(names)}",
        "see that every pod is scheduled, and that the headless Service of these names exists, selects the pods and has"
        " publishNotReadyAddresses: true",
    )


def _some(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
