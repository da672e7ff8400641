"""The names of a hostfile as addresses, and this host's ports. Torch-free."""

from __future__ import annotations

import ipaddress
import os
import socket

from zerotune_trainer.errors import TemporaryError


def address_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address of a name that resolves."""
    return ipaddress.ip_address(socket.getaddrinfo(name, None)[0][4][0])


def listening_address(name: str) -> str:
    """The address to serve a host on: its own where that is a loopback address, so that several hosts of one machine
    can use the same port; else every address of its family, as pods have more than their name's. Of a name that does
    not resolve, or not yet, the family is unknown: every address of both.
    """
    try:
        address = address_of(name)
    except socket.gaierror:
        return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 a pod is reached from outside
    if address.is_loopback:
        return str(address)
    return "0.0.0.0" if address.version == 4 else "::"  # noqa: S104 a pod is reached from outside


def listen(name: str, port: int, purpose: str) -> socket.socket:
    """A socket that listens where a host is served: see `listening_address`.

    Args:
        name: The host.
        port: The port.
        purpose: What it is for.

    Raises:
        TemporaryError: something listens there already.
    """
    address = listening_address(name)
    # A pod may have addresses of both families, and its peers choose either.
    both = ipaddress.ip_address(address).is_unspecified and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both or ":" in address else socket.AF_INET
    try:
        return socket.create_server(
            ("" if both else address, port), family=family, backlog=socket.SOMAXCONN, dualstack_ipv6=both
        )
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
