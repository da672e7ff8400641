"""The phase and the conditions that go with it, by the API conventions. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from zerotune_operator.api.status import Condition, JobStatus, Phase

_CONDITIONS: tuple[Phase, ...] = ("Planned", "Running", "Suspended", "Succeeded", "Failed")


def enter(status: JobStatus, phase: Phase, reason: str, message: str, now: datetime) -> JobStatus:
    """Set the phase, and make the conditions agree with it: that of the phase true, others that were there false."""
    if status.phase == phase and unknown_since(status) is None:
        return status
    before = {condition.type: condition for condition in status.conditions}
    true: set[Phase] = {phase, "Planned"} if status.plan else {phase}
    conditions = [
        before[kind]
        if kind in before and before[kind].status == _word(kind in true)
        else _condition(kind, kind in true, reason, message, now)
        for kind in _CONDITIONS
        if kind in true or kind in before
    ]
    return status.model_copy(update={"phase": phase, "conditions": conditions})


def not_running(status: JobStatus, reason: str, message: str, now: datetime) -> JobStatus:
    """Say why the job does not run: the reason of the condition Running may change while it stays false."""
    changed = _condition("Running", False, reason, message, now)
    before = next((condition for condition in status.conditions if condition.type == "Running"), None)
    if before is not None and before.status == changed.status:
        changed = changed.model_copy(update={"last_transition_time": before.last_transition_time})
    return _with_running(status, changed)


def unknown_since(status: JobStatus) -> datetime | None:
    """Since when nobody knows whether the job runs, as what runs it does not answer; None where that is known."""
    running = (each for each in status.conditions if each.type == "Running" and each.status == "Unknown")
    return next((each.last_transition_time for each in running), None)


def not_known(status: JobStatus, reason: str, message: str, since: datetime) -> JobStatus:
    """Say that nobody knows whether the job runs, and since when."""
    running = Condition(type="Running", status="Unknown", reason=reason, message=message, last_transition_time=since)
    return _with_running(status, running)


def _with_running(status: JobStatus, running: Condition) -> JobStatus:
    others = {condition.type: condition for condition in status.conditions} | {"Running": running}
    return status.model_copy(update={"conditions": [others[kind] for kind in _CONDITIONS if kind in others]})


def _word(holds: bool) -> Literal["True", "False"]:
    return "True" if holds else "False"


def _condition(kind: str, holds: bool, reason: str, message: str, now: datetime) -> Condition:
    return Condition(
        type=kind,
        status=_word(holds),
        reason=reason,
        message=message,
        last_transition_time=now,
    )
