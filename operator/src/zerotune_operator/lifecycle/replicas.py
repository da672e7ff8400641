"""An attempt of several replicas: it runs while one of them does, and fails when none of them can go on. Pure.

A replica that is lost comes back alone, as long as the backend starts its nodes again; the others take over its work.
An attempt of one replica is the case that all of its nodes are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from zerotune_operator.api.status import RootCause
from zerotune_operator.lifecycle.observation import NodeObservation, Observation
from zerotune_operator.lifecycle.root_cause import root_cause
from zerotune_trainer.errors import (
    ConfigurationError,
    DataError,
    ForgettingError,
    InputMissingError,
    StoppedError,
    SupersededError,
)

T = TypeVar("T")

NEVER_RETRIED = {
    error.exit_code
    for error in (
        ConfigurationError,
        DataError,
        ForgettingError,
        InputMissingError,
        StoppedError,
        SupersededError,
    )
}
"""Exit codes of failures that another start would end with as well, or that somebody asked for."""
HARMLESS = (0, StoppedError.exit_code)


def of_each_replica(nodes: Sequence[T], replicas: int) -> list[Sequence[T]]:
    """The nodes, or what there is of each, of one replica after the other."""
    size = len(nodes) // replicas
    return [nodes[first : first + size] for first in range(0, len(nodes), size)]


def replicas_of(seen: Observation) -> list[Sequence[NodeObservation]]:
    """The nodes of each replica."""
    return of_each_replica(seen.nodes, seen.replicas)


def has_started(seen: Observation) -> bool:
    """Whether all nodes of a replica have started."""
    return any(all(node.state != "waiting" for node in nodes) for nodes in replicas_of(seen))


def has_failed(node: NodeObservation) -> bool:
    """Whether a node ended in failure."""
    return node.state == "ended" and (node.disrupted or node.exit_code not in HARMLESS)


def failed_nodes(seen: Observation) -> list[NodeObservation]:
    """The nodes by whose failure the attempt fails: of several replicas any whose failure is never retried; else those
    of all replicas, once each has one.
    """
    failed = [node for node in seen.nodes if has_failed(node)]
    if seen.replicas == 1:
        return failed
    final = [node for node in failed if not node.disrupted and node.exit_code in NEVER_RETRIED]
    return final or (failed if all(any(map(has_failed, nodes)) for nodes in replicas_of(seen)) else [])


def restarts(seen: Observation) -> int:
    """How often replicas were lost and came back, or will, in this attempt."""
    if seen.replicas == 1:
        return 0
    return sum(max(node.restarts for node in nodes) for nodes in replicas_of(seen))


def last_loss(seen: Observation) -> str | None:
    """Why a replica was lost that has yet to come back: `replica 1: Killed: ...`; None: none is."""
    return next(_losses(seen), None)


def _losses(seen: Observation) -> Iterator[str]:
    for number, nodes in enumerate(replicas_of(seen)):
        if (cause := _loss(nodes)) is not None:
            yield f"replica {number}: {cause.failure_class}: {cause.message}"


def _loss(nodes: Sequence[NodeObservation]) -> RootCause | None:
    return root_cause(node.lost for node in nodes if node.lost is not None)
