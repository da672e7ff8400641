"""Which of a job's failures came first: pure, from the termination messages and exit codes of its nodes."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from zerotune_operator.api.status import RootCause
from zerotune_operator.lifecycle.observation import DISRUPTIONS, NodeObservation
from zerotune_trainer.errors import Failure, InternalError, KilledError, PeerLostError, StoppedError, ZerotuneError

_FOLLOWS = {**dict.fromkeys(DISRUPTIONS, 1), PeerLostError.failure_class: 3, StoppedError.failure_class: 4}
"""Failures that another one may cause: they are the root cause only where there is nothing before them."""
_FOLLOWS_DISRUPTION = {KilledError.failure_class: 2}
"""Failures that follow from one thing only: that a node was taken away."""
_LATEST = datetime.max.replace(tzinfo=UTC)
_CLASSES = {error.exit_code: error.failure_class for error in ZerotuneError.__subclasses__()}
_SIGNAL_HINTS = {
    signal.SIGKILL: "somebody sent it, or the kernel did for want of memory (see `dmesg`): then lower the batch or "
    "raise the node's memory",
}


def root_cause(nodes: Iterable[NodeObservation]) -> RootCause | None:
    """The failure that explains the others: not a lost peer's, and the earliest of the rest. None: nobody failed.

    A node that was taken away explains those that were killed, lost it or stopped with it.
    """
    failed = [node for node in nodes if node.state == "ended" and node.exit_code != 0]
    if not failed:
        return None
    causes = [(_cause(node), node.ended_at or _LATEST) for node in failed]
    order = _order(cause for cause, _ in causes)
    return min(causes, key=lambda pair: (order.get(pair[0].failure_class, 0), pair[1]))[0]


def prevailing(earlier: RootCause | None, found: RootCause | None) -> RootCause | None:
    """Of what was found before and what is found now: what explains the other. What ended first may be deleted."""
    if earlier is None or found is None:
        return earlier or found
    order = _order((earlier, found))
    return min(found, earlier, key=lambda cause: order.get(cause.failure_class, 0))


def waiting_cause(nodes: Iterable[NodeObservation]) -> RootCause | None:
    """What the first of the nodes waits for that does not come by itself; one that has yet to start comes before those
    that wait for it. Nothing has ended: it has no exit code.
    """
    nodes = list(nodes)
    stuck = [node for node in nodes if node.state == "waiting" and node.failure is not None]
    stuck += [replace(node, failure=_awaited(node)) for node in nodes if node.state == "running" and _awaited(node)]
    return _cause(stuck[0]).model_copy(update={"exit_code": None}) if stuck else None


def without_manifest(host: str) -> RootCause:
    """Every rank ended well, but the output is not complete: that is a failure."""
    return RootCause(
        failure_class=InternalError.failure_class,
        message="every rank ended with exit code 0, but the output has no manifest of this job, or lacks a file of it",
        hint="the output is not complete: see who deletes of it, and read the node's log",
        host=host,
        exit_code=InternalError.exit_code,
    )


def failure_of_node(node: NodeObservation) -> Failure:
    """Why a node failed: its own message, else what its exit code means."""
    return node.failure or (node.progress.failure if node.progress else None) or _by_exit_code(node)


def _awaited(node: NodeObservation) -> Failure | None:
    """What a launcher that runs reports to wait for."""
    return node.progress.waiting_for if node.progress else None


def _order(causes: Iterable[RootCause]) -> dict[str, int]:
    """How far down the chain of causes a class of failure is, among these; those not named come first."""
    disrupted = any(cause.failure_class in DISRUPTIONS for cause in causes)
    return _FOLLOWS | _FOLLOWS_DISRUPTION if disrupted else _FOLLOWS


def _cause(node: NodeObservation) -> RootCause:
    failure = failure_of_node(node)
    return RootCause(
        failure_class=failure.failure_class,
        message=failure.message,
        hint=failure.hint,
        rank=failure.rank,
        host=failure.host or node.host,
        node=node.node,
        pod=node.pod,
        step=failure.step,
        exit_code=failure.exit_code,
    )


def _by_exit_code(node: NodeObservation) -> Failure:
    """What an exit code means of a node that left no message."""
    assert node.exit_code is not None
    if node.exit_code < 0:
        return _killed(node, signal.Signals(-node.exit_code))
    return Failure(
        failure_class=_CLASSES.get(node.exit_code, InternalError.failure_class),
        message=f"{node.program} on {node.host} ended with exit code {node.exit_code} and left no message",
        hint="read the node's log",
        exit_code=node.exit_code,
    )


def _killed(node: NodeObservation, number: signal.Signals) -> Failure:
    return Failure(
        failure_class=KilledError.failure_class,
        message=f"{node.program} on {node.host} was killed by {number.name}",
        hint=_SIGNAL_HINTS.get(number, ""),
        exit_code=128 + number,
    )
