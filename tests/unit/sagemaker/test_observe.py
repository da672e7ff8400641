"""What SageMaker and the hosts say of an attempt, as the life of a job takes it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from zerotune_devtools.sagemaker.service_model import service_model
from zerotune_devtools.sagemaker.states import STATUSES
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.sagemaker.failure_reason import failure_of
from zerotune_operator.backends.sagemaker.observe import ENDED, Reports, deleted, may_run, observe
from zerotune_operator.lifecycle.deadlines import pause
from zerotune_operator.lifecycle.observation import AttemptRef, Observation
from zerotune_operator.lifecycle.transitions import advance
from zerotune_trainer.errors import DataError, Failure, PeerLostError, StoppedError, ZerotuneError
from zerotune_trainer.failures import describe
from zerotune_trainer.progress import Completion, NodeProgress, NodeReport, Progress

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ATTEMPT = AttemptRef(0, ("algo-1", "algo-2"), "uid-1", "digest", 9400, "s3://bbb/out")
COMPLETION = Completion(
    job_uid="uid-1", config_digest="digest", uri="s3://bbb/out", files=3, bytes=9, progress=Progress(step=4, total=4)
)


def described(status: str, secondary: str | None = None, **more: Any) -> dict[str, Any]:
    return {"TrainingJobStatus": status, "SecondaryStatus": secondary or status, "TrainingEndTime": NOW} | more


def reports(*errors: ZerotuneError | None) -> Reports:
    """What each host wrote last; None: it ended without a report."""
    found = {}
    for number, error in enumerate(errors, start=1):
        if error is not None:
            message = describe(error).termination_message()
            found[f"algo-{number}"] = NodeReport(
                host=f"algo-{number}", exit_code=error.exit_code, ended_at=NOW, message=message
            )
    return found


def verdict(seen: Observation, *, suspend: bool = False) -> JobStatus:
    running = advance(JobStatus(), observe(ATTEMPT, described("InProgress", "Training"), {}), RunPolicy(), NOW)
    return advance(running, seen, RunPolicy(suspend=suspend), NOW + timedelta(minutes=1))


PHASES = {
    "Starting": ("Planned", None),
    "LaunchingMLInstances": ("Planned", None),
    "PreparingTrainingStack": ("Planned", None),
    "Downloading": ("Planned", None),
    "DownloadingTrainingImage": ("Planned", None),
    "Pending": ("Planned", "Unschedulable"),
    "Interrupted": ("Planned", "Preempted"),
    "Restarting": ("Planned", None),
    "Training": ("Running", None),
    "Updating": ("Running", None),
    "Uploading": ("Running", None),
    "Stopping": ("Running", None),
    "Stopped": ("Suspended", None),
    "MaxRuntimeExceeded": ("Restarting", "Temporary"),
    "MaxWaitTimeExceeded": ("Restarting", "Temporary"),
    "Completed": ("Succeeded", None),
    "Failed": ("Failed", "Data"),
}
"""By secondary status: the phase, and the class of what is wrong."""


@pytest.mark.parametrize("secondary", service_model().shape_for("SecondaryStatus").enum)
def test_every_secondary_status_has_a_phase_and_a_reason(secondary: str) -> None:
    status = STATUSES.get(secondary, "InProgress")
    report = NodeReport(host="algo-1", exit_code=0, message=COMPLETION.termination_message())
    said = {"algo-1": report} if secondary == "Completed" else {}
    reason = "AlgorithmError: record 7 has no text, exit code: 65"
    found = verdict(observe(ATTEMPT, described(status, secondary, FailureReason=reason), said))
    cause = found.root_cause.failure_class if found.root_cause else None
    assert (found.phase, cause) == PHASES[secondary]


def test_every_status_of_the_service_has_a_meaning() -> None:
    """Waiting, running or ended, so that a job never stands still over one: unknown ones count as running."""
    for status in service_model().shape_for("TrainingJobStatus").enum:
        for secondary in [*PHASES, "SomethingNew"]:
            states = {node.state for node in observe(ATTEMPT, described(status, secondary), {}).nodes}
            assert len(states) == 1
            assert (states == {"ended"}) == (status in ENDED | {"Deleting"})
            assert may_run({"TrainingJobStatus": status}) == (status in ("InProgress", "Stopping"))


def test_a_training_job_that_is_being_deleted_is_started_again_under_another_name() -> None:
    status = verdict(observe(ATTEMPT, described("Deleting", "Stopped"), {}))
    assert (status.phase, status.restarts, status.attempts[0].outcome) == ("Restarting", 0, "Preempted")
    assert status.root_cause is not None and status.root_cause.failure_class == "Deleted"


def test_progress_is_what_the_first_host_wrote() -> None:
    progress = NodeProgress(job="j", attempt=0, host="algo-1", ranks=[], progress=Progress(step=3, total=9))
    report = NodeReport(host="algo-1", progress=progress, exit_code=143)  # Before the last interruption.
    seen = observe(ATTEMPT, described("InProgress", "Training"), {"algo-1": report})
    status = advance(JobStatus(), seen, RunPolicy(), NOW)
    assert (status.phase, status.progress and status.progress.step) == ("Running", 3)


def test_a_completed_job_with_its_completion_has_succeeded() -> None:
    report = NodeReport(host="algo-1", exit_code=0, message=COMPLETION.termination_message())
    status = verdict(observe(ATTEMPT, described("Completed"), {"algo-1": report}))
    assert status.phase == "Succeeded"
    assert status.output is not None
    assert (status.output.uri, status.output.step, status.output.files) == ("s3://bbb/out", 4, 3)


def test_a_completed_job_of_another_configuration_has_not_succeeded() -> None:
    """D2."""
    other = COMPLETION.model_copy(update={"config_digest": "other"})
    report = NodeReport(host="algo-1", exit_code=0, message=other.termination_message())
    assert verdict(observe(ATTEMPT, described("Completed"), {"algo-1": report})).phase == "Restarting"


def test_the_host_that_failed_first_says_why() -> None:
    said = reports(PeerLostError("algo-2 is lost"), DataError("record 7 has no text"))
    reason = "AlgorithmError: Data (exit code 65): record 7 has no text, exit code: 65"
    status = verdict(observe(ATTEMPT, described("Failed", FailureReason=reason), said))
    assert status.phase == "Failed"
    assert status.root_cause is not None
    assert (status.root_cause.failure_class, status.root_cause.host) == ("Data", "algo-2")


def test_a_host_that_was_killed_explains_those_that_lost_it() -> None:
    said = reports(PeerLostError("algo-2 is lost"), None)
    reason = "AlgorithmError: , exit code: 137"
    status = verdict(observe(ATTEMPT, described("Failed", FailureReason=reason), said))
    assert status.phase == "Restarting"
    assert status.root_cause is not None
    assert (status.root_cause.failure_class, status.root_cause.host, status.restarts) == ("Killed", "algo-2", 1)


@pytest.mark.parametrize("silent", [None, DataError("record 7 has no text")], ids=["killed", "failed"])
def test_a_host_that_sagemaker_has_stopped_does_not_make_a_failure_a_stop(silent: ZerotuneError | None) -> None:
    """Of two hosts the second ended; SageMaker stops the first, and quotes that."""
    said = reports(StoppedError("stopped on request after step 7"), silent)
    reason = "AlgorithmError: Stopped (exit code 143): stopped on request after step 7, exit code: 143"
    status = verdict(observe(ATTEMPT, described("Failed", FailureReason=reason), said))
    assert status.root_cause is not None
    if silent is None:
        assert (status.phase, status.root_cause.failure_class, status.restarts) == ("Restarting", "Killed", 1)
        assert status.root_cause.message == "algo-2 ended without a word, and SageMaker stopped the others"
    else:
        assert (status.phase, status.root_cause.failure_class) == ("Failed", "Data")


def test_a_stopped_job_is_suspended() -> None:
    said = reports(StoppedError("stopped on request after step 7"), StoppedError("stopped on request after step 7"))
    status = verdict(observe(ATTEMPT, described("Stopped"), said), suspend=True)
    assert (status.phase, status.attempts[0].outcome) == ("Suspended", "Stopped")


@pytest.mark.parametrize("secondary", ["MaxRuntimeExceeded", "MaxWaitTimeExceeded"])
def test_a_job_that_ran_out_of_time_goes_on_and_counts(secondary: str) -> None:
    said = reports(StoppedError("saved"), StoppedError("saved"))
    status = verdict(observe(ATTEMPT, described("Stopped", secondary), said))
    assert (status.phase, status.restarts) == ("Restarting", 1)
    assert "backend.sagemaker.max" in str(status.root_cause and status.root_cause.message)


def test_missing_capacity_counts_as_no_restart_and_waits_longer_each_time() -> None:
    status, waits = JobStatus(), []
    for number in range(7):
        attempt = replace(ATTEMPT, number=number)
        failed = described("Failed", FailureReason="CapacityError: Unable to provision requested ML compute capacity.")
        status = advance(status, observe(attempt, failed, {}), RunPolicy(max_restarts=0), NOW)
        waits.append(pause(status, NOW))
    assert (status.phase, status.restarts) == ("Restarting", 0)
    assert status.root_cause is not None and status.root_cause.failure_class == "InsufficientCapacity"
    assert waits == [60, 120, 240, 480, 960, 1800, 1800]


def test_a_deleted_training_job_counts_as_no_restart() -> None:
    status = verdict(deleted(ATTEMPT, "the training job t was deleted"))
    assert (status.phase, status.restarts, status.attempts[0].outcome) == ("Restarting", 0, "Preempted")


def test_spot_instances_that_were_taken_back_are_reported_and_waited_for() -> None:
    interrupted = described("InProgress", "Interrupted", SecondaryStatusTransitions=[{"StatusMessage": "reclaimed"}])
    status = verdict(observe(ATTEMPT, interrupted, {}))
    assert (status.phase, status.restarts, status.attempts[0].outcome) == ("Planned", 0, "Running")
    assert status.root_cause is not None
    assert (status.root_cause.failure_class, "reclaimed" in status.root_cause.message) == ("Preempted", True)
    again = advance(status, observe(ATTEMPT, described("InProgress", "Training"), {}), RunPolicy(), NOW)
    assert (again.phase, again.root_cause) == ("Running", None)


@pytest.mark.parametrize(
    ("reason", "name", "code"),
    [
        ("AlgorithmError: OutOfMemory (exit code 71): too large, exit code: 71", "OutOfMemory", 71),
        ("AlgorithmError: , exit code: 1", "Internal", 1),
        ("AlgorithmError: , exit code: 137", "Killed", 137),
        ("AlgorithmError: Please check the log", "Internal", 70),
        ("CapacityError: Unable to provision requested ML compute capacity.", "InsufficientCapacity", 75),
        ("InternalServerError: We encountered an internal error.", "Temporary", 75),
        ("ClientError: Data download failed: NoSuchKey", "InputMissing", 66),
        ("ClientError: Cannot pull algorithm container. Either the image does not exist", "InputMissing", 66),
        ("ClientError: Please use an instance type with more memory", "Configuration", 64),
        ("", "Internal", 70),
    ],
)
def test_failure_reasons(reason: str, name: str, code: int) -> None:
    found = failure_of(reason)
    assert isinstance(found, Failure)
    no_reason = f"the container ended with exit code {code} and gave no reason"
    expected = no_reason if ": , exit" in reason else reason
    assert (found.failure_class, found.exit_code, found.message) == (name, code, expected)
