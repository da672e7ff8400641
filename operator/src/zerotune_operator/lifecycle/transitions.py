"""(previous status, observation, now) -> status. Pure: no clock, no clients.

    Pending > Planned > Running > Succeeded
               |  ^        |----> Restarting > Running     a failure that may pass, `runPolicy.maxRestarts` not used up,
               v  |        |                               or a disruption
              Queued       |----> Suspended > Planned      stopped on request, after a checkpoint
                           '----> Failed

A job is Running once every node has started; until then `rootCause` says what keeps one waiting. A caller sees to it
that attempt `current_attempt(status)` is there in Planned, Queued and Restarting, and stops what still runs in Failed.
"""

from __future__ import annotations

from datetime import datetime

from zerotune_operator.api.plan_summary import PlanSummary
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import JobStatus, OutputSummary, Phase, RootCause, display
from zerotune_operator.lifecycle.attempts import ACTIVE, FINAL, has_made_steps, under_way
from zerotune_operator.lifecycle.conditions import enter, not_known, not_running, unknown_since
from zerotune_operator.lifecycle.deadlines import overdue
from zerotune_operator.lifecycle.messages import keep_unless_changed
from zerotune_operator.lifecycle.observation import DISRUPTIONS, Observation
from zerotune_operator.lifecycle.record import all_warnings, record
from zerotune_operator.lifecycle.replicas import NEVER_RETRIED, failed_nodes, has_started
from zerotune_operator.lifecycle.root_cause import prevailing, root_cause, waiting_cause, without_manifest
from zerotune_trainer.errors import KilledError, PeerLostError, StoppedError
from zerotune_trainer.progress import Progress

_HARMLESS_IN_A_STOP = DISRUPTIONS | {
    StoppedError.failure_class,
    KilledError.failure_class,
    PeerLostError.failure_class,
}
"""How nodes may end that were asked to stop: saved, killed by an impatient user, left by a peer, taken away."""


def planned(previous: JobStatus, plan: PlanSummary, now: datetime) -> JobStatus:
    """A run begins, or begins again after a stop: the attempts are kept, restarts and deadline count anew."""
    cleared = dict.fromkeys(("start_time", "completion_time", "root_cause", "output"))
    fresh = previous.model_copy(update=cleared | {"plan": plan, "restarts": 0})
    return enter(fresh, "Planned", "Planned", "", now)


def advance(previous: JobStatus, seen: Observation, policy: RunPolicy, now: datetime) -> JobStatus:
    """The status after an observation of the attempt that runs. `policy.suspend`: a stop was asked for."""
    status = record(previous, seen, now)
    over = seen.all_ended and seen.closed
    now = seen.ended_at or now
    if status.phase in FINAL:
        return _close(status, "Failed", status.root_cause, now) if over else status
    if over:
        return _conclude(status, seen, policy, now)
    if seen.all_ended:
        return _note_failure(status, _cause_so_far(status, seen))  # It is to be closed before it is judged.
    if overdue(status, policy, now):
        return _fail(status, "DeadlineExceeded", _deadline_cause(policy), now)
    if not has_started(seen):
        return _wait(status, seen, now)
    return _run(status, seen, now)


def suspended(previous: JobStatus, now: datetime) -> JobStatus:
    """A stop was asked for while no attempt ran."""
    return enter(previous, "Suspended", "Stopped", "", now)


def rejected(previous: JobStatus, cause: RootCause, now: datetime) -> JobStatus:
    """The job cannot be started at all."""
    return _fail(previous, cause.failure_class, cause, now)


def abandoned(previous: JobStatus, now: datetime) -> JobStatus:
    """The process that ran the job has ended without writing a status: what it wrote last is no longer true."""
    if previous.phase not in ACTIVE:
        return previous
    cause = RootCause(
        failure_class="Killed",
        message=f"the process that ran this job went away while it was {previous.phase}",
        hint=f"run it again: it {'goes on from its last checkpoint' if has_made_steps(previous) else 'begins anew'}",
    )
    return _fail(_close(previous, "Failed", cause, None), "RunnerLost", cause, now)


def unobserved(previous: JobStatus, cause: RootCause, seen_at: datetime) -> JobStatus:
    """What runs the attempt does not answer, for a reason that may pass: what the status says of it is as old as the
    last observation.
    """
    if not under_way(previous):
        return previous.model_copy(update={"root_cause": cause})
    seen_at = unknown_since(previous) or seen_at
    message = f"{cause.message}; the job was observed last at {seen_at:%Y-%m-%dT%H:%M:%SZ}"
    passing = cause.model_copy(update={"message": message, "exit_code": None})  # It is no failure of the attempt.
    noted = previous.model_copy(update={"root_cause": passing})
    return not_known(noted, cause.failure_class, message, seen_at)


def is_passing(status: JobStatus) -> bool:
    """Whether the cause of a status without an attempt that runs is what held the next one up, such as an outage, and
    not what the last one failed of.
    """
    if status.phase in FINAL or status.root_cause is None or under_way(status):
        return False
    return not status.attempts or status.root_cause.failure_class != status.attempts[-1].failure_class


def _wait(status: JobStatus, seen: Observation, now: datetime) -> JobStatus:
    """Nodes have yet to start. The cause of a restart stands until they have, unless something else is in the way."""
    restarting, before = status.phase == "Restarting", status.root_cause
    healed = before is not None and before.exit_code is None
    cause = keep_unless_changed(before, waiting_cause(seen.nodes))
    last = before if restarting and not healed else None
    phase: Phase = "Queued" if seen.queued else "Restarting" if restarting else "Planned"
    status = enter(status.model_copy(update={"root_cause": cause or last}), phase, phase, "", now)
    if cause is not None:
        return not_running(status, cause.failure_class, cause.message, now)
    if seen.queued:
        return not_running(status, "Queued", "the queue has yet to admit the job", now)
    return not_running(status, "Starting", "", now) if healed else status


def _run(status: JobStatus, seen: Observation, now: datetime) -> JobStatus:
    """Every node has started. A failure is reported at once, though other nodes may take a while to end; so is what a
    launcher waits for.
    """
    cause = _cause_so_far(status, seen)
    if cause is None:
        waits = keep_unless_changed(status.root_cause, waiting_cause(seen.nodes))
        status = _with_failure(status, None).model_copy(update={"root_cause": waits})
    return enter(_note_failure(status, cause), "Running", "Started", "", now)


def _note_failure(status: JobStatus, cause: RootCause | None) -> JobStatus:
    """Write down why the newest attempt fails, before its nodes are deleted and can no longer report it."""
    if cause is None or cause.failure_class == StoppedError.failure_class:
        return status
    return _with_failure(status, cause)


def _with_failure(status: JobStatus, cause: RootCause | None) -> JobStatus:
    *earlier, newest = status.attempts
    newest = newest.model_copy(update={"failure_class": cause.failure_class if cause else None})
    return status.model_copy(update={"attempts": [*earlier, newest], "root_cause": cause})


def _cause_so_far(status: JobStatus, seen: Observation) -> RootCause | None:
    """Why the attempt fails, by what is seen now and by what was seen of nodes that may be deleted since. None where
    every node runs or waits: they ended when somebody held the attempt back, and have started again.
    """
    if all(node.state != "ended" for node in seen.nodes):
        return None
    noted = status.root_cause if status.attempts[-1].failure_class is not None else None
    if seen.replicas > 1 and not seen.all_ended:
        return prevailing(noted, root_cause(failed_nodes(seen)))
    return prevailing(noted, root_cause(seen.nodes))


def _conclude(status: JobStatus, seen: Observation, policy: RunPolicy, now: datetime) -> JobStatus:
    """The verdict over an attempt whose nodes have all ended."""
    cause = _cause_so_far(status, seen)
    if seen.replicas > 1 and seen.output is not None:
        cause = None  # Replicas that were lost are not missed: the others have done all there was to do.
    if cause is None and seen.output is None and not policy.suspend:
        cause = without_manifest(seen.nodes[0].host)
    if cause is None and seen.output is not None:
        return _succeed(status, seen.output, seen.final, now)
    if cause is None or cause.failure_class == "Stopped" or (policy.suspend and _ended_by_stop(cause, seen)):
        return _stopped(status, cause, now)
    if cause.failure_class in DISRUPTIONS:
        return _restart(_close(status, "Preempted", cause, now), cause, now)
    status = _close(status, "Failed", cause, now)
    # Several replicas have all come back for as often as they may.
    used_up = seen.replicas > 1 or status.restarts >= policy.max_restarts
    if policy.suspend or not _retryable(cause) or used_up:
        return _fail(status, cause.failure_class, cause, now)
    return _restart(status.model_copy(update={"restarts": status.restarts + 1}), cause, now)


def _restart(status: JobStatus, cause: RootCause, now: datetime) -> JobStatus:
    restarting = status.model_copy(update={"root_cause": cause})
    return enter(restarting, "Restarting", cause.failure_class, cause.message, now)


def _stopped(status: JobStatus, cause: RootCause | None, now: datetime) -> JobStatus:
    stopped = _close(status, "Stopped", cause, now).model_copy(update={"root_cause": None})
    return enter(stopped, "Suspended", "Stopped", cause.message if cause else "", now)


def _succeed(status: JobStatus, output: OutputSummary, final: Progress | None, now: datetime) -> JobStatus:
    if final is not None:
        known = status.progress.model_dump() if status.progress else {}
        merged = known | final.model_dump(exclude_none=True) | {"warnings": all_warnings(status.progress, final)}
        progress = Progress.model_validate(merged)
        steps = {"last_step": final.step} | ({} if final.first_step is None else {"first_step": final.first_step})
        last = status.attempts[-1].model_copy(update=steps)
        status = status.model_copy(update={"progress": progress, "attempts": [*status.attempts[:-1], last]})
    done = _close(status, "Succeeded", None, now)
    done = done.model_copy(update={"output": output, "completion_time": now, "root_cause": None})
    return enter(done, "Succeeded", "Completed", f"the output is complete: {output.uri}{_failed_records(final)}", now)


def _failed_records(final: Progress | None) -> str:
    """How many records of an InferenceJob have an error: it has succeeded all the same."""
    if final is None or not final.failed_records:
        return ""
    return f"; {final.failed_records} of {final.total} records have an error and no text"


def _ended_by_stop(cause: RootCause, seen: Observation) -> bool:
    """Whether nodes ended no worse than by the stop itself; or as one of several replicas that was to come back."""
    return cause.failure_class in _HARMLESS_IN_A_STOP or (seen.replicas > 1 and _retryable(cause))


def _retryable(cause: RootCause) -> bool:
    return cause.exit_code not in NEVER_RETRIED


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


def _deadline_cause(policy: RunPolicy) -> RootCause:
    return RootCause(
        failure_class="DeadlineExceeded",
        message=f"the job has run longer than runPolicy.activeDeadlineSeconds ({policy.active_deadline_seconds})",
        hint="raise it; what was saved is kept",
    )


def _fail(status: JobStatus, reason: str, cause: RootCause, now: datetime) -> JobStatus:
    failed = status.model_copy(update={"root_cause": cause, "completion_time": now})
    return enter(failed, "Failed", reason, cause.message, now)
