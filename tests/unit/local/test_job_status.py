"""(previous status, observation, now) -> status: whole objects in, whole objects out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from zerotune_operator.api.plan_summary import PlanSummary
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import (
    Attempt,
    Condition,
    Display,
    JobStatus,
    NodeTopology,
    OutputSummary,
    RootCause,
)
from zerotune_operator.lifecycle.attempts import next_attempt
from zerotune_operator.lifecycle.observation import NodeObservation, Observation
from zerotune_operator.lifecycle.transitions import abandoned, advance, planned
from zerotune_trainer.errors import Failure
from zerotune_trainer.progress import NodeProgress, Progress, TopologyEntry

T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PLAN = PlanSummary(backend="local", nodes=2, world_size=2, global_batch_size=8, per_device_batch_size=4)
OUTPUT = OutputSummary(uri="file:///out", step=9, files=3, bytes=1234)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def ended(host: str, exit_code: int, seconds: float = 5, failure: Failure | None = None) -> NodeObservation:
    return NodeObservation(host, "ended", exit_code, at(seconds), failure)


def failure(kind: str, exit_code: int, **more: Any) -> Failure:
    return Failure(failure_class=kind, message=f"{kind} happened", exit_code=exit_code, **more)


def running(step: int) -> NodeObservation:
    progress = Progress(step=step, total=9, first_step=2, loss=2.5, tokens_per_second=100.4, eta_seconds=70)
    topology = [
        TopologyEntry(rank=rank, local_rank=0, host=f"127.0.0.{rank + 1}", hostname="box", device="cpu", pid=7)
        for rank in (0, 1)
    ]
    report = NodeProgress(job="j", attempt=0, host="127.0.0.1", ranks=[], progress=progress, topology=topology)
    return NodeObservation("127.0.0.1", "running", progress=report)


def seen(*nodes: NodeObservation, attempt: int = 0) -> Observation:
    return Observation(attempt, nodes)


def condition(kind: str, value: str, reason: str, seconds: float, message: str = "") -> Condition:
    return Condition(type=kind, status=value, reason=reason, message=message, last_transition_time=at(seconds))


HOSTS = ["127.0.0.1", "127.0.0.2"]
START = planned(JobStatus(), PLAN, T0)
RUNNING = advance(START, seen(running(3), NodeObservation("127.0.0.2", "running")), RunPolicy(), at(1))


def test_a_new_job_is_planned() -> None:
    assert JobStatus(phase="Planned", plan=PLAN, conditions=[condition("Planned", "True", "Planned", 0)]) == START
    assert next_attempt(START) == 0


def test_what_nodes_report_is_shown() -> None:
    assert (
        JobStatus(
            phase="Running",
            plan=PLAN,
            conditions=[condition("Planned", "True", "Planned", 0), condition("Running", "True", "Started", 1)],
            start_time=at(1),
            progress=Progress(step=3, total=9, first_step=2, loss=2.5, tokens_per_second=100.4, eta_seconds=70),
            display=Display(step="3/9", loss="2.5", tokens_per_second="100", eta="1m10s"),
            topology=[
                NodeTopology(host="127.0.0.1", hostname="box", first_rank=0, ranks=1, device="cpu"),
                NodeTopology(host="127.0.0.2", hostname="box", first_rank=1, ranks=1, device="cpu"),
            ],
            attempts=[Attempt(number=0, hosts=HOSTS, start_time=at(1), first_step=2, last_step=3)],
        )
        == RUNNING
    )
    assert next_attempt(RUNNING) == 1


def test_success_takes_every_exit_code_and_the_manifest() -> None:
    final = Progress(step=9, total=9, perplexity=7.5)
    whole = Observation(0, (ended("a", 0), ended("b", 0)), OUTPUT, final)
    done = advance(RUNNING, whole, RunPolicy(), at(9))
    assert done == RUNNING.model_copy(
        update={
            "phase": "Succeeded",
            "conditions": [
                condition("Planned", "True", "Planned", 0),
                condition("Running", "False", "Completed", 9, "the output is complete: file:///out"),
                condition("Succeeded", "True", "Completed", 9, "the output is complete: file:///out"),
            ],
            "completion_time": at(9),
            "progress": Progress(step=9, total=9, first_step=2, loss=2.5, perplexity=7.5),
            "display": Display(step="9/9", loss="2.5"),
            "attempts": [
                Attempt(
                    number=0,
                    hosts=HOSTS,
                    start_time=at(1),
                    end_time=at(9),
                    outcome="Succeeded",
                    exit_code=0,
                    first_step=2,
                    last_step=9,
                )
            ],
            "output": OUTPUT,
        }
    )


def test_success_says_how_many_records_have_an_error() -> None:
    final = Progress(step=8, total=8, failed_records=8)
    done = advance(RUNNING, Observation(0, (ended("a", 0),), OUTPUT, final), RunPolicy(), at(9))
    message = next(condition.message for condition in done.conditions if condition.type == "Succeeded")
    assert message == "the output is complete: file:///out; 8 of 8 records have an error and no text"


CONFIGURATION = failure("Configuration", 64, rank=1, host="b")
OOM = failure("OutOfMemory", 71, rank=1, host="b", step=4, hint="smaller batch")
LOST = failure("PeerLost", 69, rank=0, host="a")
STOPPED = failure("Stopped", 143)
SUPERSEDED = failure("Superseded", 77, host="b")


def cause(kind: str, exit_code: int, **more: Any) -> RootCause:
    return RootCause(failure_class=kind, message=more.pop("message", f"{kind} happened"), exit_code=exit_code, **more)


NO_MEMORY = cause("OutOfMemory", 71, rank=1, host="b", step=4, hint="smaller batch")
REJECTED = cause("Configuration", 64, rank=1, host="b")
TOO_LATE = cause("Superseded", 77, host="b")
BUG = cause("Internal", 70, host="b")
KILLED = cause(
    "Killed",
    137,
    host="b",
    message="zerotune-launch on b was killed by SIGKILL",
    hint="somebody sent it, or the kernel did for want of memory (see `dmesg`): then lower the batch or "
    "raise the node's memory",
)
NO_MANIFEST = cause(
    "Internal",
    70,
    host="a",
    message="every rank ended with exit code 0, but the output has no manifest of this job, or lacks a file of it",
    hint="the output is not complete: see who deletes of it, and read the node's log",
)
SILENT = cause(
    "Internal",
    1,
    host="a",
    message="zerotune-launch on a ended with exit code 1 and left no message",
    hint="read the node's log",
)


@pytest.mark.parametrize(
    ("nodes", "phase", "root", "outcome"),
    [
        ([ended("a", 69, 5, LOST), ended("b", 71, 6, OOM)], "Restarting", NO_MEMORY, "Failed"),
        ([ended("a", 64, 7, CONFIGURATION), ended("b", 69, 5, LOST)], "Failed", REJECTED, "Failed"),
        ([ended("a", 69, 5, LOST), ended("b", -9, 6)], "Restarting", KILLED, "Failed"),
        ([ended("a", 0), ended("b", 0)], "Restarting", NO_MANIFEST, "Failed"),
        ([ended("a", 1), ended("b", 143, 8, STOPPED)], "Restarting", SILENT, "Failed"),
        ([ended("a", 71, 6, OOM), ended("b", 70, 5, failure("Internal", 70))], "Restarting", BUG, "Failed"),
        ([ended("a", 143, 5, STOPPED), ended("b", 143, 6, STOPPED)], "Suspended", None, "Stopped"),
        ([ended("a", 69, 5, LOST), ended("b", 77, 6, SUPERSEDED)], "Failed", TOO_LATE, "Failed"),
    ],
    ids=["oom", "configuration", "killed", "no manifest", "silent", "earliest", "stopped", "superseded"],
)  # fmt: skip
def test_the_first_failure_decides(
    nodes: list[NodeObservation], phase: str, root: RootCause | None, outcome: str
) -> None:
    after = advance(RUNNING, seen(*nodes), RunPolicy(), at(9))
    assert (after.phase, after.root_cause, after.attempts[-1].outcome) == (phase, root, outcome)
    assert after.restarts == (1 if phase == "Restarting" else 0)


def test_restarts_are_counted_and_end() -> None:
    status, policy = START, RunPolicy(max_restarts=2)
    phases = []
    for attempt in range(3):
        assert next_attempt(status) == attempt
        status = advance(status, seen(ended("a", 71, 5, OOM), attempt=attempt), policy, at(attempt))
        phases.append(status.phase)
    assert phases == ["Restarting", "Restarting", "Failed"]
    assert [(past.number, past.exit_code, past.failure_class) for past in status.attempts] == [
        (0, 71, "OutOfMemory"),
        (1, 71, "OutOfMemory"),
        (2, 71, "OutOfMemory"),
    ]


@pytest.mark.parametrize(
    ("nodes", "phase"),
    [
        ([ended("a", 143, 5, STOPPED), ended("b", 143, 5, STOPPED)], "Suspended"),
        ([ended("a", -9), ended("b", -9)], "Suspended"),
        ([ended("a", 143, 5, STOPPED), ended("b", 69, 6, LOST)], "Suspended"),
        ([ended("a", 143, 5, STOPPED), ended("b", 71, 5, OOM)], "Failed"),
    ],
)
def test_a_stop_that_was_asked_for_is_no_failure_and_restarts_nothing(nodes: list[NodeObservation], phase: str) -> None:
    assert advance(RUNNING, seen(*nodes), RunPolicy(suspend=True), at(9)).phase == phase


def test_the_deadline_fails_the_job_and_the_end_of_its_nodes_changes_nothing() -> None:
    policy = RunPolicy(active_deadline_seconds=10)
    assert advance(RUNNING, seen(running(4)), policy, at(10.9)).phase == "Running"
    late = advance(RUNNING, seen(running(4)), policy, at(11))
    deadline = RootCause(
        failure_class="DeadlineExceeded",
        message="the job has run longer than runPolicy.activeDeadlineSeconds (10)",
        hint="raise it; what was saved is kept",
    )
    assert (late.phase, late.root_cause, late.completion_time) == ("Failed", deadline, at(11))
    over = advance(late, seen(ended("a", 143, 13, STOPPED)), policy, at(13))
    assert (over.phase, over.root_cause) == ("Failed", deadline)
    assert over.attempts[-1].end_time == at(13)


def test_a_job_whose_runner_has_died_is_not_running() -> None:
    lost = abandoned(RUNNING, at(60))
    assert (lost.phase, lost.attempts[-1].outcome) == ("Failed", "Failed")
    assert lost.root_cause == RootCause(
        failure_class="Killed",
        message="the process that ran this job went away while it was Running",
        hint="run it again: it goes on from its last checkpoint",
    )
    early = abandoned(START, at(60)).root_cause
    assert early is not None and early.hint == "run it again: it begins anew", "it had made no step"
    stopped = advance(RUNNING, seen(ended("a", 143, 5, STOPPED)), RunPolicy(), at(9))
    assert abandoned(stopped, at(60)) is stopped


def test_run_again_after_a_stop_keeps_the_attempts() -> None:
    stopped = advance(RUNNING, seen(ended("a", 143, 5, STOPPED)), RunPolicy(), at(9))
    again = planned(stopped, PLAN, at(100))
    assert again == stopped.model_copy(
        update={
            "phase": "Planned",
            "start_time": None,
            "conditions": [
                condition("Planned", "True", "Planned", 0),
                condition("Running", "False", "Stopped", 9, "Stopped happened"),
                condition("Suspended", "False", "Planned", 100),
            ],
        }
    )
    assert next_attempt(again) == 1
