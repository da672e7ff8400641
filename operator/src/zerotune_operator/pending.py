"""A job that cannot be planned yet. Pure."""

from __future__ import annotations

from datetime import datetime

from zerotune_operator.api.status import JobStatus, RootCause
from zerotune_operator.conditions import enter, not_running


def pending(status: JobStatus, reason: str, message: str, cause: RootCause | None, now: datetime) -> JobStatus:
    """The job cannot be planned yet."""
    if status.phase == "Restarting":
        waiting = status.model_copy(update={"root_cause": cause or status.root_cause})
    else:
        waiting = enter(status, "Pending", reason, message, now).model_copy(update={"root_cause": cause})
    return not_running(waiting, reason, message, now)
