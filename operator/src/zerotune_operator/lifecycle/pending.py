"""A job that cannot be planned yet. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from zerotune_operator.api.status import JobStatus, RootCause
from zerotune_operator.lifecycle.conditions import enter, not_running
from zerotune_operator.lifecycle.messages import keep_unless_changed


class Awaited(NamedTuple):
    """What a job waits for before it can be planned."""

    reason: str
    """One CamelCase word."""
    message: str
    cause: RootCause | None = None
    """Where it does not come by itself."""


def pending(status: JobStatus, reason: str, message: str, cause: RootCause | None, now: datetime) -> JobStatus:
    """The job cannot be planned yet."""
    kept = keep_unless_changed(status.root_cause, cause)
    if kept is not None and cause is not None and message == cause.message:
        message = kept.message
    if status.phase == "Restarting":
        waiting = status.model_copy(update={"root_cause": kept or status.root_cause})
    else:
        waiting = enter(status, "Pending", reason, message, now).model_copy(update={"root_cause": kept})
    return not_running(waiting, reason, message, now)
