"""The Events of a job's life."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from tests.unit.status.attempts import PLAN, START, at, ended, running, seen, status_after, waiting
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import JobStatus, OutputSummary, RootCause
from zerotune_operator.lifecycle.job_events import EventText, changes
from zerotune_operator.lifecycle.observation import NodeObservation, Observation
from zerotune_operator.lifecycle.pending import pending
from zerotune_operator.lifecycle.transitions import advance, planned, rejected, suspended
from zerotune_trainer.progress import NodeProgress, Progress


def resumed(first: int, step: int | None = None) -> NodeObservation:
    progress = Progress(step=step or first, total=9, first_step=first)
    return NodeObservation(
        "a", "running", progress=NodeProgress(job="j", attempt=1, host="a", ranks=[], progress=progress)
    )


def events_of(*observations: Observation, policy: RunPolicy | None = None) -> list[EventText]:
    """The Events from nothing to the last observation."""
    statuses = [
        JobStatus(),
        START,
        *(status_after(*observations[:count], policy=policy) for count in range(1, len(observations) + 1)),
    ]
    return [event for before, after in pairwise(statuses) for event in changes(before, after)]


PLANNED = EventText("Normal", "Planned", "2 nodes, 4 ranks, a batch of 8, ZeRO stage 3")
CAUSE = RootCause(failure_class="Configuration", message="no", hint="yes", exit_code=64)
DONE = OutputSummary(uri="pvc://results/run", files=3, bytes=1234)


def test_a_life_with_a_restart_is_reported_phase_by_phase() -> None:
    assert events_of(
        seen(running("a")),
        seen(ended("a", "OutOfMemory", 71)),
        seen(waiting("a"), attempt=1),
        seen(resumed(4), attempt=1),
        Observation(1, (ended("a"),), DONE),
    ) == [
        PLANNED,
        EventText("Normal", "Started", "attempt 0 runs"),
        EventText(
            "Warning",
            "Restarting",
            "attempt 0 ended: OutOfMemory (pod-a, n-1): OutOfMemory happened; do something",
        ),
        EventText("Normal", "Started", "attempt 1 runs"),
        EventText("Normal", "Resumed", "attempt 1 goes on from step 4"),
        EventText("Normal", "Succeeded", "pvc://results/run is complete: 3 files, 1234 bytes"),
    ]


def test_a_plan_is_reported_also_where_the_job_was_further_by_then() -> None:
    runs, failed = status_after(seen(running("a"))), status_after(seen(ended("a", "Data", 65)))
    first, then = changes(JobStatus(), runs)
    assert (first, then.reason) == (PLANNED, "Started")
    first, then = changes(JobStatus(), failed)
    assert (first, then.reason) == (PLANNED, "Failed")
    assert [event.reason for event in changes(JobStatus(), rejected(JobStatus(), CAUSE, at(1)))] == ["Failed"]


def test_where_an_attempt_goes_on_is_reported_once_it_is_known() -> None:
    reported_late = events_of(
        seen(running("a")), seen(resumed(4)), seen(resumed(4)), Observation(0, (ended("a"),), DONE)
    )
    assert [event.reason for event in reported_late] == ["Planned", "Started", "Resumed", "Succeeded"]
    at_the_end = Observation(0, (ended("a"),), DONE, Progress(step=9, total=9, first_step=4))
    assert [event.reason for event in events_of(seen(running("a")), at_the_end)][2:] == ["Resumed", "Succeeded"]


def test_what_a_node_waits_for_is_reported_once_and_again_when_it_is_something_else() -> None:
    pull, quota = seen(waiting("a", "ImagePull")), seen(waiting("a", "QuotaExceeded"))
    assert events_of(pull, pull, seen(waiting("a")), quota) == [
        PLANNED,
        EventText("Warning", "ImagePull", "ImagePull (pod-a, n-1): ImagePull happened; do something"),
        EventText("Warning", "QuotaExceeded", "QuotaExceeded (pod-a, n-1): QuotaExceeded happened; do something"),
    ]


def test_a_reason_to_wait_that_moves_on_to_another_pod_is_no_news() -> None:
    before, after = status_after(seen(waiting("a", "ImagePull"))), status_after(seen(waiting("b", "ImagePull")))
    assert before != after
    assert changes(before, after) == []


def test_a_job_that_cannot_be_planned_yet_says_what_for() -> None:
    waits = pending(JobStatus(), "AwaitsModel", "FineTuneJob base has not succeeded yet", None, at(1))
    assert changes(JobStatus(), waits) == [EventText("Normal", "Pending", "FineTuneJob base has not succeeded yet")]


def test_a_queue_and_a_stop_are_reported() -> None:
    queued, policy = seen(waiting("a"), queued=True), RunPolicy(suspend=True)
    status = status_after(queued)
    assert changes(START, status) == [EventText("Normal", "Queued", "the queue has yet to admit the job")]
    stopped = advance(status_after(seen(resumed(4))), seen(ended("a", "Stopped", 143)), policy, at(50))
    assert changes(status_after(seen(resumed(4))), stopped) == [
        EventText("Normal", "Suspended", "stopped at step 4/9, and what was saved is kept: Stopped happened")
    ]
    (early,) = changes(START, suspended(START, at(1)))
    assert early.message == "stopped before the first step, and nothing is saved yet"


def test_the_end_of_a_failed_job_names_the_cause() -> None:
    cause = RootCause(failure_class="Configuration", message="it does not fit", hint="add nodes", rank=3, host="b")
    assert changes(START, rejected(START, cause, at(1))) == [
        EventText("Warning", "Failed", "Configuration (rank 3, b): it does not fit; add nodes")
    ]


def test_a_long_cause_is_cut_to_what_an_event_takes() -> None:
    cause = RootCause(failure_class="Internal", message="ä" * 5000)
    message = changes(START, rejected(START, cause, at(1)))[0].message
    assert len(message.encode()) <= 1024
    assert message.endswith("...")


def test_offload_is_part_of_the_plan() -> None:
    plan = PLAN.model_copy(update={"offload_optimizer": "cpu", "offload_param": "none"})
    assert changes(JobStatus(), planned(JobStatus(), plan, at(0)))[0].message.endswith("ZeRO stage 3, optimizer on cpu")


def warned(*texts: str, first: int = 0) -> NodeObservation:
    node = resumed(first)
    assert node.progress is not None and node.progress.progress is not None
    progress = node.progress.progress.model_copy(update={"warnings": list(texts) or None})
    return replace(node, progress=node.progress.model_copy(update={"progress": progress}))


def test_what_ranks_warn_of_is_reported_once_and_stays_in_the_status() -> None:
    events = events_of(seen(warned("the data changed")), seen(warned("the data changed", "a disk is small")))
    assert [event for event in events if event.reason == "TrainerWarning"] == [
        EventText("Warning", "TrainerWarning", "the data changed"),
        EventText("Warning", "TrainerWarning", "a disk is small"),
    ]
    restarted = status_after(seen(warned("a")), seen(ended("a", "Killed", 137)), seen(warned(first=4), attempt=1))
    assert restarted.progress is not None and restarted.progress.warnings == ["a"]
    final = Progress(step=9, total=9, warnings=["seen at the end"])
    done = status_after(seen(warned("a")), Observation(0, (ended("a"),), DONE, final))
    assert done.progress is not None and done.progress.warnings == ["a", "seen at the end"]


def test_what_the_attempt_that_runs_warns_of_makes_room_for_nothing_older() -> None:
    first = seen(warned("the data changed", "a", "b", "c"))
    again = seen(warned("d", "the data changed", first=4), attempt=1)
    status = status_after(first, seen(ended("a", "Killed", 137)), again)
    assert status.progress is not None and status.progress.warnings == ["b", "c", "d", "the data changed"]


def test_the_step_at_which_a_rank_ended_counts_though_no_figures_came_of_it() -> None:
    stopped = ended("a", "Stopped", 143)
    assert stopped.failure is not None
    stopped = replace(stopped, progress=resumed(0, 5).progress, failure=stopped.failure.model_copy(update={"step": 7}))
    status = advance(status_after(seen(resumed(0, 5))), seen(stopped), RunPolicy(suspend=True), at(50))
    assert status.attempts[-1].last_step == 7
    assert status.display is not None and status.display.step == "7/9"


def test_figures_alone_make_no_event() -> None:
    runs = status_after(seen(resumed(4)))
    assert changes(runs, advance(runs, seen(resumed(4, 5)), RunPolicy(), at(60))) == []
