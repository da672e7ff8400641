"""What happened between two statuses, as the Events that `kubectl describe` shows. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from zerotune_operator.api.plan_summary import PlanSummary
from zerotune_operator.api.status import JobStatus, RootCause
from zerotune_operator.lifecycle.attempts import ACTIVE, has_made_steps
from zerotune_operator.lifecycle.messages import same_reason
from zerotune_trainer.counting import counted

EventType = Literal["Normal", "Warning"]


class EventText(NamedTuple):
    """An Event, without what it is about."""

    type: EventType
    reason: str
    """One CamelCase word."""
    message: str


def changes(previous: JobStatus, current: JobStatus) -> list[EventText]:
    """What a person would want to know of what is new, oldest first."""
    entered = [*_begun(previous, current), _entered(current)] if current.phase != previous.phase else []
    resumed = _resumed(previous, current)
    entered = [*entered, *_selected(previous, current), *_lost(previous, current), *_warned(previous, current)]
    entered = [*entered, *resumed] if current.phase == "Running" else [*resumed, *entered]
    waits, before = _waits_for(current), _waits_for(previous)
    if waits is None or (before is not None and same_reason(waits, before)):
        return entered
    return [*entered, EventText("Warning", waits.failure_class, _message(waits))]


def changed_after_end(status: JobStatus) -> EventText:
    """That the spec of a job that has ended was changed."""
    return EventText(
        "Normal",
        "ChangedAfterEnd",
        f"the job has ended, its phase is {status.phase}: of a changed spec only runPolicy.ttlSecondsAfterFinished "
        "counts any more; to run it again, delete it and create it anew",
    )


def _entered(status: JobStatus) -> EventText:
    """That the job is in its phase now."""
    cause = status.root_cause
    match status.phase:
        case "Pending":
            return EventText("Normal", "Pending", _why_not_running(status))
        case "Planned":
            return EventText("Normal", "Planned", _plan(status.plan) if status.plan else "")
        case "Queued":
            return EventText("Normal", "Queued", "the queue has yet to admit the job")
        case "Running":
            return EventText("Normal", "Started", f"{_attempt(status)} runs")
        case "Restarting" if cause is not None:
            return EventText("Warning", "Restarting", f"{_attempt(status)} ended: {_message(cause)}")
    return _at_rest(status)


def _begun(previous: JobStatus, current: JobStatus) -> list[EventText]:
    """That a run was planned, where it was further by the time of this status."""
    planned = current.plan is not None and len(current.attempts) > len(previous.attempts)
    if not planned or previous.phase in ACTIVE or current.phase == "Planned":
        return []
    return [_entered(current.model_copy(update={"phase": "Planned"}))]


def _selected(previous: JobStatus, current: JobStatus) -> list[EventText]:
    """That SageMaker has selected one of several instance types."""
    plan = current.plan
    if plan is None or not plan.instance_types or plan.instance_type is None:
        return []
    known = previous.plan is not None and previous.plan.instance_type == plan.instance_type
    return [] if known else [EventText("Normal", "InstanceTypeSelected", f"{plan.instance_type}: {_sizes(plan)}")]


def _lost(previous: JobStatus, current: JobStatus) -> list[EventText]:
    """That a replica was lost, and comes back alone."""
    before = {attempt.number: attempt.replica_restarts for attempt in previous.attempts}
    newest = current.attempts[-1] if current.attempts else None
    if newest is None or newest.replica_restarts <= before.get(newest.number, 0):
        return []
    message = f"{newest.replica_failure or 'a replica was lost'}; it comes back alone, and the others go on"
    return [EventText("Warning", "ReplicaRestarting", _cut(message))]


def _warned(previous: JobStatus, current: JobStatus) -> list[EventText]:
    """What the ranks warn of."""
    return [EventText("Warning", "TrainerWarning", _cut(text)) for text in new_warnings(previous, current)]


def new_warnings(previous: JobStatus, current: JobStatus) -> list[str]:
    """What the ranks warn of in one status and not in the one before."""
    known, found = ((status.progress and status.progress.warnings) or [] for status in (previous, current))
    return [text for text in found if text not in known]


def _at_rest(status: JobStatus) -> EventText:
    if status.phase == "Suspended":
        return EventText("Normal", "Suspended", _stopped(status))
    if status.root_cause is not None:
        return EventText("Warning", "Failed", _message(status.root_cause))
    assert status.output is not None, "a job that has not failed has a result"
    done = status.output
    return EventText(
        "Normal", "Succeeded", f"{done.uri} is complete: {counted(done.files, 'file')}, {counted(done.bytes, 'byte')}"
    )


def _resumed(previous: JobStatus, current: JobStatus) -> list[EventText]:
    """That the newest attempt goes on from a checkpoint, which its first rank knows some time after it started."""
    newest = current.attempts[-1] if current.attempts else None
    if newest is None or not newest.first_step:
        return []
    known = any(past.number == newest.number and past.first_step for past in previous.attempts)
    resumed = EventText("Normal", "Resumed", f"{_attempt(current)} goes on from step {newest.first_step}")
    return [] if known else [resumed]


def _attempt(status: JobStatus) -> str:
    return f"attempt {status.attempts[-1].number}"


def _stopped(status: JobStatus) -> str:
    messages = [found.message for found in status.conditions if found.type == "Suspended" and found.message]
    said = "".join(f": {message}" for message in messages)
    if not has_made_steps(status):
        return _cut(f"stopped before the first step, and nothing is saved yet{said}")
    return _cut(f"stopped{_at_step(status)}, and what was saved is kept{said}")


def _at_step(status: JobStatus) -> str:
    return f" at step {status.display.step}" if status.display else ""


def _plan(plan: PlanSummary) -> str:
    types = [each.instance_type for each in plan.instance_types]
    left_out = [f"{name} is left out: {reason}" for name, reason in plan.left_out.items()]
    if not types:
        return _sizes(plan)
    return _cut("; ".join([f"on {', else '.join(types)}: {_sizes(plan)} on the first", *left_out]))


def _sizes(plan: PlanSummary) -> str:
    replicas = [counted(plan.replicas, "replica")] if plan.replicas > 1 else []
    parts = [*replicas, counted(plan.nodes, "node"), counted(plan.world_size, "rank")]
    parts.append(f"a batch of {plan.global_batch_size}")
    parts += [f"ZeRO stage {plan.zero_stage}"] if plan.zero_stage is not None else []
    offloaded = [("optimizer", plan.offload_optimizer), ("parameters", plan.offload_param)]
    parts += [f"{what} on {where}" for what, where in offloaded if where and where != "none"]
    return ", ".join(parts)


def _waits_for(status: JobStatus) -> RootCause | None:
    """What nodes wait for, where that does not come by itself."""
    cause = status.root_cause
    waits = status.phase == "Pending" or status.phase in ACTIVE
    return cause if waits and cause is not None and cause.exit_code is None else None


def _why_not_running(status: JobStatus) -> str:
    return next((found.message for found in status.conditions if found.type == "Running"), "")


def _message(cause: RootCause) -> str:
    """Class, place, message and hint in one line of at most what an Event takes."""
    place = [f"rank {cause.rank}" if cause.rank is not None else "", cause.pod or cause.host or "", cause.node or ""]
    where = ", ".join(part for part in place if part)
    text = f"{cause.failure_class}{f' ({where})' if where else ''}: {cause.message}"
    return _cut(f"{text}; {cause.hint}" if cause.hint else text)


def _cut(text: str, limit: int = 1024) -> str:
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[: limit - 3].decode(errors="ignore") + "..."
