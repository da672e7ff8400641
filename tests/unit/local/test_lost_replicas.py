"""Which replicas of a job on this machine are started again, and how often."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.unit.status.attempts import ended, running
from zerotune_operator.backends.local.replicas import LostReplicas
from zerotune_operator.lifecycle.observation import NodeObservation


@pytest.fixture
def started() -> list[list[str]]:
    """The hosts that were started again."""
    return []


def seen(lost: LostReplicas, *nodes: NodeObservation, stopping: bool = False) -> list[tuple[str, int]]:
    found: Sequence[NodeObservation] = lost.seen(nodes, 2, stopping=stopping)
    return [(node.state, node.restarts) for node in found]


def test_a_replica_is_started_again_when_all_of_its_nodes_have_ended(started: list[list[str]]) -> None:
    lost = LostReplicas(2, lambda hosts: started.append(list(hosts)))
    partly = seen(lost, running("a"), running("b"), ended("c", "Killed", 137), running("d"))
    assert partly == [("running", 0), ("running", 0), ("waiting", 1), ("running", 0)]
    assert started == []
    seen(lost, running("a"), running("b"), ended("c", "Killed", 137), ended("d", "PeerLost", 69))
    assert started == [["c", "d"]]
    assert seen(lost, running("a"), running("b"), running("c"), running("d"))[2:] == [("running", 1)] * 2


def test_a_replica_comes_back_as_often_as_a_job_restarts(started: list[list[str]]) -> None:
    lost = LostReplicas(2, lambda hosts: started.append(list(hosts)))
    states = [seen(lost, running("a"), ended("b", "Killed", 137))[1] for _ in range(3)]
    assert states == [("waiting", 1), ("waiting", 2), ("ended", 2)]
    assert started == [["b"], ["b"]]


@pytest.mark.parametrize(("kind", "exit_code", "stopping"), [("Data", 65, False), ("Killed", 137, True)])
def test_what_no_start_mends_and_what_is_stopped_stays_ended(
    started: list[list[str]], kind: str, exit_code: int, stopping: bool
) -> None:
    lost = LostReplicas(2, lambda hosts: started.append(list(hosts)))
    assert seen(lost, running("a"), ended("b", kind, exit_code), stopping=stopping)[1] == ("ended", 0)
    assert started == []
