"""Nodes that have yet to start, and nodes that are taken away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.status.attempts import START, at, ended, failure, running, seen, status_after, waiting
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import Attempt, Condition, RootCause
from zerotune_operator.lifecycle.attempts import current_attempt, under_way
from zerotune_operator.lifecycle.job_events import changes
from zerotune_operator.lifecycle.observation import NodeObservation, Observation
from zerotune_operator.lifecycle.root_cause import root_cause
from zerotune_operator.lifecycle.transitions import advance
from zerotune_trainer.progress import NodeProgress, TopologyEntry


def condition(kind: str, value: str, reason: str, seconds: float, message: str = "") -> Condition:
    return Condition(
        type=kind,
        status=value,
        reason=reason,
        message=message,
        last_transition_time=at(seconds),
    )


STUCK = RootCause(
    failure_class="Unschedulable",
    message="Unschedulable happened",
    hint="do something",
    host="b",
    node="n-1",
    pod="pod-b",
)


def test_a_job_whose_nodes_start_is_planned_until_the_last_has() -> None:
    status = status_after(seen(running("a"), waiting("b")))
    assert status == START.model_copy(update={"start_time": at(10), "attempts": [Attempt(number=0, hosts=["a", "b"])]})
    assert under_way(status)
    assert current_attempt(status) == 0
    status = status_after(seen(running("a"), waiting("b")), seen(running("a"), running("b")))
    assert (status.phase, status.attempts) == ("Running", [Attempt(number=0, hosts=["a", "b"], start_time=at(20))])


def test_what_a_node_waits_for_is_the_root_cause_and_why_the_job_does_not_run() -> None:
    status = status_after(seen(running("a"), waiting("b", "Unschedulable")))
    assert status == START.model_copy(
        update={
            "start_time": at(10),
            "attempts": [Attempt(number=0, hosts=["a", "b"])],
            "root_cause": STUCK,
            "conditions": [
                condition("Planned", "True", "Planned", 0),
                condition("Running", "False", "Unschedulable", 10, "Unschedulable happened"),
            ],
        }
    )


def test_names_that_do_not_resolve_are_the_root_cause_while_the_job_runs() -> None:
    unresolved = failure("NameResolution", 68)
    lost = NodeProgress(job="j", attempt=0, host="b", ranks=[], waiting_for=unresolved)
    waits = seen(running("a"), replace(running("b"), progress=lost))
    status = status_after(waits)
    assert (status.phase, status.attempts[0].failure_class) == ("Running", None)
    assert status.root_cause == RootCause(
        failure_class="NameResolution",
        message="NameResolution happened",
        hint="do something",
        host="b",
        node="n-1",
        pod="pod-b",
    )
    assert [event.reason for event in changes(START, status)] == ["Started", "NameResolution"]
    assert advance(status, waits, RunPolicy(), at(20)) == status
    assert status_after(waits, seen(running("a"), running("b"))).root_cause is None
    failed = status_after(waits, seen(ended("a", "PeerLost", 69, 1), ended("b", "NameResolution", 68)))
    assert (failed.phase, failed.attempts[0].failure_class) == ("Restarting", "NameResolution")


def test_a_pod_that_is_not_placed_explains_names_that_do_not_resolve() -> None:
    lost = NodeProgress(job="j", attempt=0, host="a", ranks=[], waiting_for=failure("NameResolution", 68))
    assert status_after(seen(replace(running("a"), progress=lost), waiting("b", "Unschedulable"))).root_cause == STUCK


def test_what_has_healed_is_no_cause_any_more() -> None:
    stuck, healed = seen(running("a"), waiting("b", "Unschedulable")), seen(running("a"), waiting("b"))
    status = status_after(stuck, healed)
    assert status.root_cause is None
    assert status.conditions[1] == condition("Running", "False", "Starting", 10)
    assert advance(status, healed, RunPolicy(), at(30)) == status


def test_nothing_is_written_while_nothing_changes() -> None:
    for observation in (
        seen(waiting("a"), waiting("b")),
        seen(waiting("a", "ImagePull"), waiting("b")),
        seen(running("a")),
    ):
        status = status_after(observation)
        assert advance(status, observation, RunPolicy(), at(99)) == status


def test_waiting_fails_a_job_only_at_its_deadline() -> None:
    observation, policy = seen(waiting("a", "ImagePull")), RunPolicy(active_deadline_seconds=60)
    status = status_after(observation, policy=policy)
    assert advance(status, observation, policy, at(69)).phase == "Planned"
    late = advance(status, observation, policy, at(70))
    assert late.phase == "Failed"
    assert late.root_cause is not None
    assert late.root_cause.failure_class == "DeadlineExceeded"


def test_the_time_in_a_queue_counts_against_no_deadline() -> None:
    observation = seen(waiting("a"), waiting("b"), queued=True)
    status = status_after(observation)
    assert (status.phase, status.start_time) == ("Queued", None)
    assert status.conditions[1] == condition("Running", "False", "Queued", 10, "the queue has yet to admit the job")
    admitted = advance(status, seen(waiting("a"), waiting("b")), RunPolicy(), at(500))
    assert (admitted.phase, admitted.start_time) == ("Planned", at(500))


def test_the_cause_of_a_restart_stands_until_the_next_attempt_runs() -> None:
    failed = status_after(seen(ended("a", "OutOfMemory", 71)))
    assert failed.phase == "Restarting"
    again = advance(failed, seen(waiting("a"), attempt=1), RunPolicy(), at(20))
    assert (again.phase, again.root_cause, current_attempt(again)) == ("Restarting", failed.root_cause, 1)
    stuck = advance(again, seen(waiting("b", "Unschedulable"), attempt=1), RunPolicy(), at(30))
    assert (stuck.phase, stuck.root_cause) == ("Restarting", STUCK)
    runs = advance(stuck, seen(running("a"), attempt=1), RunPolicy(), at(40))
    assert (runs.phase, runs.root_cause) == ("Running", None)


@pytest.mark.parametrize("kind", ["Preempted", "Evicted", "NodeLost", "Deleted"])
@pytest.mark.parametrize("code", [143, 137])
def test_a_disruption_is_always_retried_and_does_not_count(kind: str, code: int) -> None:
    status, policy = START, RunPolicy(max_restarts=0)
    for attempt in range(3):
        nodes = (ended("a", kind, code), ended("b", "PeerLost", 69, seconds=1))
        status = advance(status, seen(*nodes, attempt=attempt), policy, at(attempt))
        assert (status.phase, status.restarts) == ("Restarting", 0)
        assert status.root_cause is not None
        assert (status.root_cause.failure_class, status.root_cause.pod, status.root_cause.node) == (
            kind,
            "pod-a",
            "n-1",
        )
    assert [(past.outcome, past.failure_class) for past in status.attempts] == [("Preempted", kind)] * 3


@pytest.mark.parametrize(
    ("others", "first"),
    [
        ([("PeerLost", 69), ("Killed", 137), ("Stopped", 143)], "Evicted"),
        ([("Data", 65)], "Data"),
        ([("OutOfMemory", 71), ("PeerLost", 69)], "OutOfMemory"),
    ],
)
def test_a_node_that_was_taken_explains_lost_peers_but_no_other_failure(
    others: list[tuple[str, int]], first: str
) -> None:
    nodes = [ended("a", "Evicted", 143, 9), *(ended("b", kind, code, 1) for kind, code in others)]
    for order in (nodes, nodes[::-1]):
        cause = root_cause(order)
        assert cause is not None
        assert cause.failure_class == first


def test_a_killed_rank_and_other_failures_stay_in_the_order_of_their_time() -> None:
    cause = root_cause([ended("a", "Killed", 137, 1), ended("b", "Internal", 70, 2)])
    assert cause is not None
    assert cause.failure_class == "Killed"


def test_a_disruption_in_a_stop_that_was_asked_for_suspends() -> None:
    status = status_after(seen(ended("a", "Evicted", 143), ended("b", "Stopped", 143)), policy=RunPolicy(suspend=True))
    assert (status.phase, status.attempts[0].outcome, status.root_cause) == ("Suspended", "Stopped", None)


def test_a_failure_is_reported_while_other_nodes_still_run_and_kept_when_its_pod_is_deleted() -> None:
    both = seen(running("a"), running("b"))
    status = status_after(both, seen(ended("a", "OutOfMemory", 71), running("b")))
    assert (status.phase, status.attempts[0].failure_class) == ("Running", "OutOfMemory")
    assert status.root_cause is not None
    assert status.root_cause.failure_class == "OutOfMemory"
    deleted = seen(ended("a", "Stopped", 143, None), ended("b", "Stopped", 143, None))
    over = advance(status, deleted, RunPolicy(), at(60))
    assert (over.phase, over.root_cause, over.restarts) == ("Restarting", status.root_cause, 1)


def test_a_lost_peer_that_is_seen_first_does_not_hide_the_node_that_was_taken() -> None:
    status = status_after(seen(ended("b", "PeerLost", 69), running("a")))
    over = advance(status, seen(ended("b", "PeerLost", 69), ended("a", "Preempted", 143, 9)), RunPolicy(), at(60))
    assert (over.attempts[0].outcome, over.restarts) == ("Preempted", 0)


def test_nodes_that_stop_one_after_another_are_no_failure() -> None:
    status = status_after(seen(ended("a", "Stopped", 143), running("b")), policy=RunPolicy(suspend=True))
    assert (status.phase, status.root_cause) == ("Running", None)


def test_the_proof_of_the_topology_names_the_nodes_of_the_cluster() -> None:
    entries = [
        TopologyEntry(rank=rank, local_rank=0, host=host, hostname=host, device="cpu", pid=1)
        for rank, host in enumerate("ab")
    ]
    report = NodeProgress(job="j", attempt=0, host="a", ranks=[], topology=entries)
    first = NodeObservation("a", "running", progress=report, node="n-1")
    status = status_after(Observation(0, (first, NodeObservation("b", "running", node="n-2"))))
    assert [(node.host, node.node) for node in status.topology] == [("a", "n-1"), ("b", "n-2")]
