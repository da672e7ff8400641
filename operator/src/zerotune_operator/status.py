"""(previous status, observation, now) -> status. Pure: no clock, no clients.

    Pending > Planned > Running > Succeeded
                           |----> Restarting > Running     a failure that may pass, `runPolicy.maxRestarts` not used up
                           |----> Suspended > Planned      stopped on request, after a checkpoint
                           '----> Failed

A caller starts attempt `next_attempt(status)` in Planned and Restarting, and stops what still runs in Failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby

from zerotune_operator.api.status import (
    Attempt,
    Condition,
    JobStatus,
    NodeTopology,
    OutputSummary,
    Phase,
    PlanSummary,
    RootCause,
    display,
)
from zerotune_operator.api.topology import RunPolicy
from zerotune_operator.backends.base import NodeObservation, Observation
from zerotune_operator.rootcause import root_cause, without_manifest
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError, StoppedError
from zerotune_trainer.progress import Progress, TopologyEntry

FINAL: frozenset[Phase | None] = frozenset({"Succeeded", "Failed"})
ACTIVE: frozenset[Phase | None] = frozenset({"Planned", "Queued", "Running", "Restarting"})

_ATTEMPTS_KEPT = 16
_NEVER_RETRIED = {error.exit_code for error in (ConfigurationError, DataError, InputMissingError, StoppedError)}
_CONDITIONS: tuple[Phase, ...] = ("Planned", "Running", "Suspended", "Succeeded", "Failed")


def planned(previous: JobStatus, plan: PlanSummary, now: datetime) -> JobStatus:
    """A run begins, or begins again after a stop: the attempts are kept, restarts and deadline count anew."""
    gone = dict.fromkeys(("start_time", "completion_time", "root_cause", "output"))
    fresh = previous.model_copy(update=gone | {"plan": plan, "restarts": 0})
    return _enter(fresh, "Planned", "Planned", "", now)


def next_attempt(status: JobStatus) -> int:
    """The number of the attempt to start next."""
    return status.attempts[-1].number + 1 if status.attempts else 0


def has_made_steps(status: JobStatus) -> bool:
    """Whether any attempt has: from then on the job's output and checkpoints hold work of its spec."""
    reached = [attempt.last_step for attempt in status.attempts]
    return any(reached) or (status.progress is not None and status.progress.step > 0)


def advance(previous: JobStatus, seen: Observation, policy: RunPolicy, now: datetime) -> JobStatus:
    """The status after an observation of the attempt that runs. `policy.suspend`: a stop was asked for."""
    status = _record(previous, seen, now)
    ended = all(node.state == "ended" for node in seen.nodes)
    if status.phase in FINAL:
        return _close(status, "Failed", status.root_cause, now) if ended else status
    if ended:
        return _conclude(status, seen, policy, now)
    if _overdue(status, policy, now):
        return _fail(status, "DeadlineExceeded", _deadline_cause(policy), now)
    return _enter(status, "Running", "Started", "", now)


def suspended(previous: JobStatus, now: datetime) -> JobStatus:
    """A stop was asked for while no attempt ran."""
    return _enter(previous, "Suspended", "Stopped", "", now)


def refused(previous: JobStatus, cause: RootCause, now: datetime) -> JobStatus:
    """The job cannot be started at all."""
    return _fail(previous, cause.failure_class, cause, now)


def abandoned(previous: JobStatus, now: datetime) -> JobStatus:
    """Whoever ran the job is gone without a word, so what it wrote last is no longer true."""
    if previous.phase not in ACTIVE:
        return previous
    cause = RootCause(
        failure_class="Killed",
        message=f"the process that ran this job went away while it was {previous.phase}",
        hint="run it again: it goes on from its last checkpoint",
    )
    return _fail(_close(previous, "Failed", cause, None), "RunnerLost", cause, now)


def _record(previous: JobStatus, seen: Observation, now: datetime) -> JobStatus:
    """What the nodes report, without judging it."""
    reports = [node.progress for node in seen.nodes if node.progress is not None]
    progress = next((report.progress for report in reports if report.progress), None)
    topology = next((report.topology for report in reports if report.topology), None)
    attempt = _current(previous, seen.attempt, now)
    if progress is not None:
        attempt = attempt.model_copy(update={"first_step": progress.first_step, "last_step": progress.step})
    update = {
        "attempts": [*(past for past in previous.attempts if past.number != attempt.number), attempt][-_ATTEMPTS_KEPT:],
        "start_time": previous.start_time or now,
        "progress": progress or previous.progress,
        "display": display(progress) if progress else previous.display,
        "topology": _topology(topology) if topology else previous.topology,
    }
    return previous.model_copy(update=update)


def _current(previous: JobStatus, number: int, now: datetime) -> Attempt:
    found = [attempt for attempt in previous.attempts if attempt.number == number]
    return found[0] if found else Attempt(number=number, start_time=now)


def _topology(entries: list[TopologyEntry]) -> list[NodeTopology]:
    by_rank = sorted(entries, key=lambda entry: entry.rank)
    return [_node_topology(host, list(ranks)) for host, ranks in groupby(by_rank, key=lambda entry: entry.host)]


def _node_topology(host: str, ranks: Sequence[TopologyEntry]) -> NodeTopology:
    first = ranks[0]
    return NodeTopology(
        host=host, hostname=first.hostname, first_rank=first.rank, ranks=len(ranks), device=first.device
    )


def _conclude(status: JobStatus, seen: Observation, policy: RunPolicy, now: datetime) -> JobStatus:
    """The verdict over an attempt whose nodes have all ended."""
    cause = root_cause(seen.nodes)
    if cause is None and seen.output is None and not policy.suspend:
        cause = without_manifest(seen.nodes[0].host)
    if cause is None and seen.output is not None:
        return _succeed(status, seen.output, seen.final, now)
    if cause is None or cause.failure_class == "Stopped" or (policy.suspend and _ended_by_stop(seen.nodes)):
        message = cause.message if cause else ""
        return _enter(_close(status, "Stopped", cause, now), "Suspended", "Stopped", message, now)
    status = _close(status, "Failed", cause, now)
    if policy.suspend or not _retryable(cause) or status.restarts >= policy.max_restarts:
        return _fail(status, cause.failure_class, cause, now)
    restarting = status.model_copy(update={"restarts": status.restarts + 1, "root_cause": cause})
    return _enter(restarting, "Restarting", cause.failure_class, cause.message, now)


def _succeed(status: JobStatus, output: OutputSummary, final: Progress | None, now: datetime) -> JobStatus:
    if final is not None:
        known = status.progress.model_dump() if status.progress else {}
        progress = Progress.model_validate(known | final.model_dump(exclude_none=True))
        last = status.attempts[-1].model_copy(update={"last_step": final.step})
        status = status.model_copy(update={"progress": progress, "attempts": [*status.attempts[:-1], last]})
    done = _close(status, "Succeeded", None, now)
    done = done.model_copy(update={"output": output, "completion_time": now, "root_cause": None})
    return _enter(done, "Succeeded", "Completed", f"the output is complete: {output.uri}", now)


def _ended_by_stop(nodes: Sequence[NodeObservation]) -> bool:
    """Whether nodes ended no worse than by the stop itself: saved, killed by an impatient user, or left by a peer."""
    harmless = {"Stopped", "Killed", "PeerLost"}
    cause = root_cause(nodes)
    return cause is None or cause.failure_class in harmless


def _retryable(cause: RootCause) -> bool:
    return cause.exit_code not in _NEVER_RETRIED


def _close(status: JobStatus, outcome: str, cause: RootCause | None, now: datetime | None) -> JobStatus:
    """Write the end of the newest attempt down, once."""
    if not status.attempts or status.attempts[-1].end_time is not None:
        return status
    update = {
        "outcome": outcome,
        "end_time": now,
        "failure_class": cause.failure_class if cause else None,
        "exit_code": cause.exit_code if cause else 0,
    }
    *earlier, newest = status.attempts
    return _at_rest(status.model_copy(update={"attempts": [*earlier, newest.model_copy(update=update)]}))


def _at_rest(status: JobStatus) -> JobStatus:
    """Take out of the progress what is true only while steps are made."""
    if status.progress is None:
        return status
    progress = status.progress.model_copy(update={"tokens_per_second": None, "eta_seconds": None})
    return status.model_copy(update={"progress": progress, "display": display(progress)})


def _overdue(status: JobStatus, policy: RunPolicy, now: datetime) -> bool:
    if policy.active_deadline_seconds is None or status.start_time is None:
        return False
    return (now - status.start_time).total_seconds() > policy.active_deadline_seconds


def _deadline_cause(policy: RunPolicy) -> RootCause:
    return RootCause(
        failure_class="DeadlineExceeded",
        message=f"the job has run longer than runPolicy.activeDeadlineSeconds ({policy.active_deadline_seconds})",
        hint="raise it; what was saved is kept",
    )


def _fail(status: JobStatus, reason: str, cause: RootCause, now: datetime) -> JobStatus:
    failed = status.model_copy(update={"root_cause": cause, "completion_time": now})
    return _enter(failed, "Failed", reason, cause.message, now)


def _enter(status: JobStatus, phase: Phase, reason: str, message: str, now: datetime) -> JobStatus:
    """Set the phase, and make the conditions agree with it: that of the phase true, others that were there false."""
    if status.phase == phase:
        return status
    before = {condition.type: condition for condition in status.conditions}
    true: set[Phase] = {phase, "Planned"} if status.plan else {phase}
    conditions = [
        _condition(before.get(kind), kind, kind in true, reason, message, now)
        for kind in _CONDITIONS
        if kind in true or kind in before
    ]
    return status.model_copy(update={"phase": phase, "conditions": conditions})


def _condition(before: Condition | None, kind: str, holds: bool, reason: str, message: str, now: datetime) -> Condition:
    value = "True" if holds else "False"
    if before is not None and before.status == value:
        return before
    return Condition(type=kind, status=value, reason=reason, message=message, last_transition_time=now)
