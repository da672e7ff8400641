"""An attempt whose nodes have ended is over when none of them can start again, and not before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.status.attempts import at, ended, running, seen, status_after, waiting
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import OutputSummary
from zerotune_operator.lifecycle.attempts import next_attempt, under_way
from zerotune_operator.lifecycle.deadlines import seconds_since_end
from zerotune_operator.lifecycle.transitions import advance

OUTPUT = OutputSummary(uri="s3://rrr/r", files=1, bytes=2)


@pytest.mark.parametrize("kind", ["", "Stopped", "Deleted", "NodeLost", "OutOfMemory", "Data"])
@pytest.mark.parametrize("suspend", [False, True])
def test_no_attempt_begins_while_the_one_before_may_go_on(kind: str, suspend: bool) -> None:
    policy = RunPolicy(suspend=suspend)
    last = seen(ended("a", kind, 1 if kind else 0))
    status = status_after(seen(running("a")), replace(last, closed=False), policy=policy)
    assert under_way(status)
    assert status.phase == "Running"

    over = advance(status, last, policy, at(60))
    assert not under_way(over)
    assert next_attempt(over) == 1


def test_why_it_failed_is_kept_until_it_is_over() -> None:
    status = status_after(seen(running("a")), seen(ended("a", "NodeLost", 137), closed=False))
    assert status.attempts[0].failure_class == "NodeLost"
    over = advance(status, seen(ended("a", "Stopped", 143, None)), RunPolicy(), at(60))
    assert (over.phase, over.attempts[0].outcome, over.root_cause) == ("Restarting", "Preempted", status.root_cause)


def test_nodes_that_start_again_in_their_attempt_have_not_failed() -> None:
    """Somebody suspended the Job and let it go on before it was deleted."""
    held = status_after(seen(running("a")), seen(ended("a", "Deleted", 143), closed=False))
    again = advance(advance(held, seen(waiting("a")), RunPolicy(), at(30)), seen(running("a")), RunPolicy(), at(40))
    assert (again.phase, again.root_cause, again.attempts[0].failure_class) == ("Running", None, None)
    done = advance(again, replace(seen(ended("a")), output=OUTPUT), RunPolicy(), at(50))
    assert (done.phase, len(done.attempts)) == ("Succeeded", 1)


def test_a_job_past_its_deadline_is_over_when_its_last_attempt_is() -> None:
    policy = RunPolicy(active_deadline_seconds=15)
    late = status_after(seen(running("a")), seen(running("a")), seen(running("a")), policy=policy)
    assert late.phase == "Failed"
    held = advance(late, seen(ended("a", "Stopped", 143), closed=False), policy, at(40))
    assert under_way(held)
    assert not under_way(advance(held, seen(ended("a", "Stopped", 143)), policy, at(50)))


def test_how_long_all_have_ended_counts_from_the_last() -> None:
    nodes = seen(ended("a", seconds=5), ended("b", seconds=9), ended("c", seconds=None))
    assert seconds_since_end(nodes, at(20)) == 11
    assert seconds_since_end(seen(ended("a", seconds=None)), at(20)) == float("inf")
