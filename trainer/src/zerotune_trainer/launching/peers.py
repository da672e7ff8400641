"""What the launchers of the other hosts report, asked when this host's ranks hang or lost a peer. Torch-free."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

from pydantic import ValidationError

from zerotune_trainer.errors import PeerLostError
from zerotune_trainer.hostfile import Host, Hostfile
from zerotune_trainer.progress import NodeProgress

SILENT_SECONDS = 5.0
"""A rank whose heartbeat is older than this is stopped, dead, or cut off."""

_ANSWER_SECONDS = 2.0
_ASKED_AT_ONCE = 32


def suspects(hostfile: Hostfile, here: Host, port: int) -> list[str]:
    """What is wrong on the other hosts, a phrase each, the most telling first.

    Args:
        hostfile: All hosts.
        here: This one, which is not asked.
        port: The port at which launchers serve `/progress`.
    """
    answers = _ask_all(hostfile, here, port)
    nodes = [node for node in answers.values() if node is not None]
    unreachable = [f"the launcher of {host} does not answer" for host, node in answers.items() if node is None]
    return [*_failures(nodes), *_silent(nodes), *unreachable]


def silent_hosts(hostfile: Hostfile, here: Host, port: int) -> set[str]:
    """The other hosts whose launchers do not answer. Arguments as of `suspects`."""
    return {host for host, node in _ask_all(hostfile, here, port).items() if node is None}


def _ask_all(hostfile: Hostfile, here: Host, port: int) -> dict[str, NodeProgress | None]:
    others = [host for host in hostfile.hosts if host != here]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        answers = pool.map(lambda host: _ask(host, port), others)
        return dict(zip((host.name for host in others), answers, strict=True))


def _ask(host: Host, port: int) -> NodeProgress | None:
    name = f"[{host.name}]" if ":" in host.name else host.name
    try:
        with _direct.open(f"http://{name}:{port}/progress", timeout=_ANSWER_SECONDS) as answer:
            return NodeProgress.model_validate_json(answer.read())
    except (OSError, HTTPException, ValidationError):
        return None  # Which is an answer: see `suspects`.


# Hosts of a job are reached directly, whatever proxy the environment names.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _failures(nodes: Iterable[NodeProgress]) -> list[str]:
    failed = [(node.host, node.failure) for node in nodes if node.failure is not None]
    return [
        f"{host} failed: {failure.message}"
        for host, failure in failed
        if failure.failure_class != PeerLostError.failure_class
    ]


def _silent(nodes: Iterable[NodeProgress]) -> list[str]:
    return [
        f"rank {rank.rank} on {node.host} has been silent for {rank.heartbeat_age_seconds:.0f}s"
        for node in nodes
        for rank in node.ranks
        if rank.exit_code is None and rank.heartbeat_age_seconds >= SILENT_SECONDS
    ]
