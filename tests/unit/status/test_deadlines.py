"""What is due by the clock."""

from __future__ import annotations

import pytest

from tests.unit.status.attempts import START, at, ended, running, seen, status_after, waiting
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import Attempt, JobStatus
from zerotune_operator.lifecycle.deadlines import deadline_in, expires_in, overdue, pause, stragglers
from zerotune_operator.lifecycle.observation import NodeObservation

OOM = ended("a", "OutOfMemory", 71, seconds=0)


@pytest.mark.parametrize(
    ("nodes", "seconds", "late"),
    [
        ((OOM, running("b")), 29, False),
        ((OOM, running("b")), 30, True),
        ((OOM, waiting("b")), 30, True),
        ((OOM, ended("b")), 300, False),
        ((ended("a", "Stopped", 143, 0), running("b")), 300, False),
        ((ended("a", "", 0, 0), running("b")), 300, False),
        ((ended("a", "Evicted", 143, 0), running("b")), 30, True),
        ((ended("a", "Deleted", 143, None), running("b")), 0, True),
        ((running("a"), running("b")), 300, False),
    ],
)
def test_nodes_that_outlive_a_failed_one_for_long_are_stragglers(
    nodes: tuple[NodeObservation, ...], seconds: int, late: bool
) -> None:
    assert stragglers(seen(*nodes), at(seconds)) is late


def test_a_job_is_overdue_when_its_time_is_up() -> None:
    policy, status = RunPolicy(active_deadline_seconds=60), status_after(seen(running("a")))
    assert deadline_in(status, policy, at(30)) == 40
    assert not overdue(status, policy, at(69))
    assert overdue(status, policy, at(70))
    assert deadline_in(status, policy, at(700)) == 0


@pytest.mark.parametrize(
    "status",
    [
        START,
        JobStatus(phase="Suspended", start_time=at(0)),
        JobStatus(phase="Failed", start_time=at(0), completion_time=at(5)),
    ],
)
def test_a_job_that_does_not_run_has_no_deadline(status: JobStatus) -> None:
    assert deadline_in(status, RunPolicy(active_deadline_seconds=60), at(500)) is None
    assert deadline_in(status_after(seen(running("a"))), RunPolicy(), at(500)) is None


def test_a_finished_job_expires() -> None:
    done = JobStatus(phase="Succeeded", completion_time=at(100))
    policy = RunPolicy(ttl_seconds_after_finished=50)
    assert [expires_in(done, policy, at(seconds)) for seconds in (100, 149, 150, 999)] == [50, 1, 0, 0]
    assert expires_in(done, RunPolicy(), at(999)) is None
    assert expires_in(START, policy, at(999)) is None
    assert expires_in(done, RunPolicy(ttl_seconds_after_finished=0), at(100)) == 0


@pytest.mark.parametrize(("restarts", "seconds"), [(0, 1), (1, 2), (4, 16), (9, 30)])
def test_the_pause_before_a_restart_doubles_up_to_half_a_minute(restarts: int, seconds: int) -> None:
    last = Attempt(number=restarts, end_time=at(0))
    status = JobStatus(phase="Restarting", restarts=restarts, attempts=[last])
    assert pause(status, at(0)) == seconds
    assert pause(status, at(seconds + 1)) == 0
    assert pause(status.model_copy(update={"phase": "Planned"}), at(0)) == 0
