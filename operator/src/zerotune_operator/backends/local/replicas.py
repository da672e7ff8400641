"""Replicas of a job on this machine: one that is lost is started again alone, while the others go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from zerotune_operator.lifecycle.observation import NodeObservation
from zerotune_operator.lifecycle.replicas import NEVER_RETRIED, has_failed, of_each_replica


class LostReplicas:
    """How often each replica of an attempt was started again.

    Args:
        most: How often each may be.
        start: Starts the nodes of these hosts again.
    """

    def __init__(self, most: int, start: Callable[[Sequence[str]], None]) -> None:
        self._most, self._start = most, start
        self._restarts: Counter[int] = Counter()

    def seen(self, nodes: Sequence[NodeObservation], replicas: int, *, stopping: bool) -> tuple[NodeObservation, ...]:
        """The nodes of an attempt, after those of replicas that were lost have been started again.

        Args:
            nodes: What they do.
            replicas: How many replicas they divide into.
            stopping: Whether they were asked to stop: none is started again.
        """
        return tuple(
            node
            for number, group in enumerate(of_each_replica(nodes, replicas))
            for node in (group if stopping else self._of_replica(number, group))
        )

    def _of_replica(self, number: int, nodes: Sequence[NodeObservation]) -> Sequence[NodeObservation]:
        failed = [node for node in nodes if has_failed(node)]
        final = any(node.exit_code in NEVER_RETRIED for node in failed)
        if not failed or final or self._restarts[number] >= self._most:
            return [replace(node, restarts=self._restarts[number]) for node in nodes]
        restarts = self._restarts[number] + 1
        if all(node.state == "ended" for node in nodes):
            self._restarts[number] = restarts
            self._start([node.host for node in nodes])
        return [self._restarting(node, restarts) if node.state == "ended" else node for node in nodes]

    def _restarting(self, node: NodeObservation, restarts: int) -> NodeObservation:
        return NodeObservation(node.host, "waiting", progress=node.progress, restarts=restarts, lost=node)
