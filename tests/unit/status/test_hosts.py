"""An attempt records the hosts that it has, and a status stays small enough to be stored."""

from __future__ import annotations

from tests.unit.status.attempts import START, at, ended, running, seen, waiting
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import Attempt, JobStatus
from zerotune_operator.lifecycle.observation import NodeObservation
from zerotune_operator.lifecycle.transitions import advance

LARGEST = 4096
"""`topology.nodes` may be so many."""


def test_an_attempt_records_its_hosts_when_it_is_first_observed() -> None:
    status = advance(START, seen(waiting("a"), waiting("b")), RunPolicy(), at(1))
    assert status.attempts[-1].hosts == ["a", "b"]


def test_each_attempt_keeps_the_hosts_that_it_had() -> None:
    failed = advance(START, seen(ended("a0", "Temporary", 75), ended("b0")), RunPolicy(), at(1))
    status = advance(failed, seen(running("a1"), attempt=1), RunPolicy(), at(60))
    assert [attempt.hosts for attempt in status.attempts] == [["a0", "b0"], ["a1"]]


def test_the_hosts_of_the_oldest_attempts_make_room_for_those_of_the_largest_job() -> None:
    past = [_past(0, 8), _past(1, LARGEST - 8)]
    nodes = [NodeObservation(f"n-{index}", "waiting") for index in range(8)]
    status = advance(START.model_copy(update={"attempts": past}), seen(*nodes, attempt=2), RunPolicy(), at(1))
    assert [len(attempt.hosts) for attempt in status.attempts] == [0, LARGEST - 8, 8]
    assert JobStatus.model_validate(status.model_dump(by_alias=True)) == status


def _past(number: int, hosts: int) -> Attempt:
    return Attempt(number=number, outcome="Preempted", end_time=at(0), hosts=[f"h-{index}" for index in range(hosts)])
