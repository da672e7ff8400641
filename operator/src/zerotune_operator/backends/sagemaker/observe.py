"""What SageMaker and the instances say of an attempt -> Observation. Pure.

`DescribeTrainingJob` says whether the attempt waits, runs or has ended; the hosts write to S3 how far they are and how
they ended. While the training job goes on, its hosts run: a report of an end may be that of a container before the
last interruption.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from zerotune_operator.api.status import OutputSummary
from zerotune_operator.backends.reports import read_ending, read_failure, text
from zerotune_operator.backends.sagemaker.failure_reason import failure_of, is_empty
from zerotune_operator.backends.sagemaker.gone import deleted, how_to_stop
from zerotune_operator.backends.sagemaker.layout import is_of_a_run
from zerotune_operator.lifecycle.observation import AttemptRef, NodeObservation, Observation
from zerotune_trainer.errors import Failure, KilledError, StoppedError, TemporaryError
from zerotune_trainer.progress import NodeReport

Description = Mapping[str, Any]
"""What `DescribeTrainingJob` answers."""
Reports = Mapping[str, NodeReport]
"""What the hosts wrote, by their names in the plan."""

ENDED = frozenset({"Completed", "Failed", "Stopped"})
"""Values of `TrainingJobStatus` that do not change any more."""

_DELETING = "Deleting"
"""The value that one has which has ended, and is being deleted."""

_WAITING = frozenset(
    {
        *("Starting", "LaunchingMLInstances", "PreparingTrainingStack", "Downloading", "DownloadingTrainingImage"),
        *("Pending", "Interrupted", "Restarting"),
    }
)
"""Values of `SecondaryStatus` before the container runs. One that is not known counts as running."""
_OUT_OF_TIME = {"MaxRuntimeExceeded": "maxRuntimeSeconds", "MaxWaitTimeExceeded": "maxWaitSeconds"}
_WAITS_FOR = {
    "Interrupted": ("Preempted", "the spot instances were taken back, and SageMaker waits for others"),
    "Pending": ("Unschedulable", "SageMaker waits for instances"),
}
"""By the value of `SecondaryStatus`: what does not pass within minutes."""


def observe(
    attempt: AttemptRef, description: Description, reports: Reports, log: str = "", *, by_others: bool = False
) -> Observation:
    """What the hosts of an attempt do; once the training job has ended, also its result.

    Args:
        attempt: The attempt.
        description: Of its training job.
        reports: Of its hosts.
        log: How its log ends, where nobody else says why it failed.
        by_others: Whether it was stopped, and zerotune has not asked for that.
    """
    selected = description.get("ResourceConfig", {}).get("SelectedInstanceType")
    seen = _timed(_observe(attempt, description, reports, log), description)
    if by_others:
        seen = _stopped_by_others(seen, attempt)
    return replace(seen, instance_type=selected, training_job_arn=description.get("TrainingJobArn"))


def may_run(description: Description) -> bool:
    """Whether a training job runs, or may come to run; one that is stopping runs."""
    return description["TrainingJobStatus"] not in ENDED | {_DELETING}


def was_stopped(description: Description) -> bool:
    """Whether somebody has stopped a training job, and not a limit of its own."""
    return description["TrainingJobStatus"] == "Stopped" and description.get("SecondaryStatus") not in _OUT_OF_TIME


def is_unexplained(description: Description) -> bool:
    """Whether a training job has failed, and SageMaker does not say why."""
    return description["TrainingJobStatus"] == "Failed" and is_empty(description.get("FailureReason", ""))


def _stopped_by_others(seen: Observation, attempt: AttemptRef) -> Observation:
    """With who has stopped it. On a cluster it starts again, as its spec says that it is to run."""
    by = "it was stopped at AWS, not by zerotune"
    message = by if is_of_a_run(attempt.job_uid) else f"{by}, which starts it again: {how_to_stop(attempt)}"
    nodes = (replace(node, failure=_also(node.failure, message)) for node in seen.nodes)
    return replace(seen, nodes=tuple(nodes))


def _also(failure: Failure | None, said: str) -> Failure | None:
    if failure is None or failure.failure_class != StoppedError.failure_class:
        return failure
    return failure.model_copy(update={"message": f"{failure.message}; {said}"})


def _timed(seen: Observation, description: Description) -> Observation:
    """With the times that SageMaker gives. One that ended before it had instances took from its creation on."""
    created, ended = _time(description, "CreationTime"), description["TrainingJobStatus"] in ENDED
    return replace(
        seen,
        created_at=created,
        started_at=_time(description, "TrainingStartTime") or created,
        ended_at=_time(description, "TrainingEndTime") if ended else None,
    )


def _time(description: Description, name: str) -> datetime | None:
    found: datetime | None = description.get(name)
    return found.astimezone(UTC) if found else None  # boto3 gives them in the time zone of this machine.


def _observe(attempt: AttemptRef, description: Description, reports: Reports, log: str) -> Observation:
    if description["TrainingJobStatus"] in ENDED:
        return _ended(attempt, description, reports, log)
    if description["TrainingJobStatus"] == _DELETING:
        return deleted(attempt, "the training job is being deleted")
    secondary = description.get("SecondaryStatus", "")
    if secondary in _WAITING:
        return waiting(attempt, _waits_for(description))
    return Observation(attempt.number, tuple(_running(host, reports.get(host)) for host in attempt.hosts))


def waiting(attempt: AttemptRef, failure: Failure | None = None) -> Observation:
    """An attempt whose hosts have yet to start."""
    return Observation(
        attempt.number, tuple(NodeObservation(host, "waiting", failure=failure) for host in attempt.hosts)
    )


def _waits_for(description: Description) -> Failure | None:
    secondary = description["SecondaryStatus"]
    if secondary not in _WAITS_FOR:
        return None
    name, message = _WAITS_FOR[secondary]
    transitions = description.get("SecondaryStatusTransitions") or [{}]
    detail = text(transitions[-1].get("StatusMessage", ""))
    return Failure(
        failure_class=name,
        message=f"{message}: {detail}" if detail else message,
        hint="other instance types, regions or capacity that is not spot may be there sooner",
        exit_code=TemporaryError.exit_code,
    )


def _ended(attempt: AttemptRef, description: Description, reports: Reports, log: str) -> Observation:
    reason = _reason(attempt, description, reports, log)
    nodes = tuple(_node(host, description, reports.get(host), reason) for host in attempt.hosts)
    seen = Observation(attempt.number, nodes)
    first = reports.get(attempt.hosts[0])
    completion = read_ending(first.message).completion if first and reason is None else None
    if completion is None or (completion.job_uid, completion.config_digest) != (attempt.job_uid, attempt.config_digest):
        return seen
    output = OutputSummary(
        uri=attempt.output_uri, step=completion.progress.step, files=completion.files, bytes=completion.bytes
    )
    return replace(seen, output=output, final=completion.progress)


def _running(host: str, report: NodeReport | None) -> NodeObservation:
    return NodeObservation(host, "running", progress=report.progress if report else None)


def _node(host: str, description: Description, report: NodeReport | None, reason: Failure | None) -> NodeObservation:
    ended_at = _time(description, "TrainingEndTime")
    progress = report.progress if report else None
    if reason is None:
        return NodeObservation(host, "ended", 0, ended_at=ended_at, progress=progress)
    own = read_failure(report.message) if report else None
    if own is not None and report is not None and _explains(own, description):
        return NodeObservation(host, "ended", own.exit_code, report.ended_at or ended_at, own, progress)
    return NodeObservation(host, "ended", reason.exit_code, ended_at, reason, progress)


def _explains(own: Failure, description: Description) -> bool:
    """Whether what a host says of its end is why the training job ended: one that was stopped saves and says so."""
    stopped = own.failure_class == StoppedError.failure_class
    return was_stopped(description) or not stopped


def _reason(attempt: AttemptRef, description: Description, reports: Reports, log: str) -> Failure | None:
    """Why the training job ended, by SageMaker; None: it has succeeded."""
    status, secondary = description["TrainingJobStatus"], description.get("SecondaryStatus", "")
    if status == "Completed":
        return None
    if secondary in _OUT_OF_TIME:
        return _out_of_time(_OUT_OF_TIME[secondary])
    if status == "Failed":
        failure = failure_of(description.get("FailureReason", "SageMaker gives no reason"), log)
        # Nobody has asked for a stop: SageMaker stops the other hosts when one of them ends, and may quote any.
        return failure if failure.failure_class != StoppedError.failure_class else _lost_host(attempt, reports)
    unsaid = "no host has said what it saved" if reports else "before its ranks ran"
    message = next((failure.message for failure in _failures(reports)), unsaid)
    return Failure(failure_class=StoppedError.failure_class, message=message, exit_code=StoppedError.exit_code)


def _failures(reports: Reports) -> list[Failure]:
    """What the hosts that failed, or were stopped, have reported."""
    found = (read_failure(report.message) for report in reports.values() if report.exit_code)
    return [failure for failure in found if failure is not None]


def _lost_host(attempt: AttemptRef, reports: Reports) -> Failure:
    """Why a training job has failed of which SageMaker quotes a host that it has stopped itself."""
    own = next((each for each in _failures(reports) if each.failure_class != StoppedError.failure_class), None)
    if own is not None:
        return own
    silent = [host for host in attempt.hosts if host not in reports or reports[host].exit_code is None]
    return Failure(
        failure_class=KilledError.failure_class,
        message=f"{', '.join(silent) or 'a host'} ended without a word, and SageMaker stopped the others",
        hint="an instance that is out of memory kills its processes: lower the batch, or take a larger instance type",
        exit_code=KilledError.exit_code,
    )


def _out_of_time(field: str) -> Failure:
    return Failure(
        failure_class=TemporaryError.failure_class,
        message=f"the training job took longer than backend.sagemaker.{field}, and SageMaker stopped it",
        hint="the next attempt goes on from its last checkpoint; raise the limit so that a run fits into it",
        exit_code=TemporaryError.exit_code,
    )
