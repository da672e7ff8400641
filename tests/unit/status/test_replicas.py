"""A job of several replicas: it runs while one of them does, and says which was lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.status.attempts import START, at, ended, failure, running, status_after, waiting
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import OutputSummary
from zerotune_operator.lifecycle.deadlines import stragglers
from zerotune_operator.lifecycle.job_events import changes
from zerotune_operator.lifecycle.observation import NodeObservation, Observation
from zerotune_trainer.progress import NodeProgress, Progress, TopologyEntry

RESULT = OutputSummary(uri="s3://bucket/run", step=9, files=2, bytes=10)


def seen(*nodes: NodeObservation, output: OutputSummary | None = None, closed: bool = True) -> Observation:
    """Two replicas of one or two nodes."""
    return Observation(0, nodes, output=output, closed=closed, replicas=2)


def restarting(host: str, kind: str = "Killed", times: int = 1) -> NodeObservation:
    return NodeObservation(host, "waiting", restarts=times, lost=ended(host, kind, 137))


def reporting(host: str, step: int, rank: int = 0) -> NodeObservation:
    entry = TopologyEntry(rank=rank, local_rank=0, host=host, hostname=f"machine-{host}", device="cpu", pid=1)
    progress = Progress(step=step, total=100)
    report = NodeProgress(job="j", attempt=0, host=host, ranks=[], progress=progress, topology=[entry])
    return replace(running(host), progress=report)


def test_a_job_runs_as_soon_as_one_replica_does() -> None:
    assert status_after(seen(running("a"), waiting("b"), waiting("c"), waiting("d"))).phase == "Planned"
    status = status_after(seen(waiting("a"), running("b"), running("c"), running("d")))
    assert (status.phase, status.attempts[-1].start_time) == ("Running", at(10))


def test_a_lost_replica_is_no_end_but_an_event() -> None:
    before = status_after(seen(running("a"), running("b")))
    status = status_after(seen(running("a"), running("b")), seen(running("a"), restarting("b")))
    attempt = status.attempts[-1]
    assert (status.phase, attempt.outcome, attempt.failure_class, status.root_cause) == (
        "Running",
        "Running",
        None,
        None,
    )
    assert (attempt.replica_restarts, attempt.replica_failure) == (1, "replica 1: Killed: Killed happened")
    (event,) = changes(before, status)
    assert (event.type, event.reason) == ("Warning", "ReplicaRestarting")
    assert event.message == "replica 1: Killed: Killed happened; it comes back alone, and the others go on"
    back = status_after(
        seen(running("a"), running("b")),
        seen(running("a"), restarting("b")),
        seen(running("a"), replace(running("b"), restarts=1)),
    )
    assert changes(status, back) == []
    assert back.attempts[-1].replica_restarts == 1


def test_the_result_counts_though_a_replica_is_lost_for_good() -> None:
    status = status_after(
        seen(running("a"), running("b")),
        seen(running("a"), ended("b", "OutOfMemory", 71)),
        seen(ended("a"), ended("b", "OutOfMemory", 71), output=RESULT),
    )
    assert (status.phase, status.output, status.root_cause) == ("Succeeded", RESULT, None)


def test_a_job_fails_when_no_replica_can_go_on() -> None:
    one = seen(running("a"), ended("b", "OutOfMemory", 71))
    assert status_after(one).root_cause is None
    assert not stragglers(one, at(100))
    both = seen(ended("a", "OutOfMemory", 71), ended("b", "OutOfMemory", 71))
    status = status_after(one, both)
    assert (status.phase, status.restarts) == ("Failed", 0), "each replica has come back for as often as it may"


def test_a_failure_that_no_start_mends_ends_all_replicas() -> None:
    one = seen(running("a"), ended("b", "Data", 65))
    status = status_after(one)
    assert status.root_cause is not None
    assert status.root_cause.failure_class == "Data"
    assert stragglers(one, at(100)), "the others are stopped"


def test_replicas_that_do_not_find_the_result_are_stopped() -> None:
    found = seen(ended("a"), waiting("b"), output=RESULT, closed=False)
    assert not stragglers(found, at(10))
    assert stragglers(found, at(100))


@pytest.mark.parametrize("kind", ["Killed", "OutOfMemory", "Temporary"])
def test_a_job_is_suspended_while_a_replica_is_away(kind: str) -> None:
    policy = RunPolicy(suspend=True)
    assert status_after(seen(ended("a", "Stopped", 143), ended("b", kind, 75)), policy=policy).phase == "Suspended"


def test_progress_and_places_are_those_of_all_replicas() -> None:
    status = status_after(seen(reporting("a", 50), reporting("b", 60)), seen(reporting("a", 70), restarting("b")))
    assert status.progress is not None
    assert status.progress.step == 70
    assert [node.hostname for node in status.topology] == ["machine-a", "machine-b"]


def test_a_replica_that_waits_says_for_what() -> None:
    lacking = replace(restarting("b"), failure=failure("Unschedulable"))
    status = status_after(seen(running("a"), running("b")), seen(running("a"), lacking))
    assert status.phase == "Running"
    assert status.root_cause is not None
    assert status.root_cause.failure_class == "Unschedulable"
    assert START.phase == "Planned"
