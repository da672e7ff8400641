"""A job that cannot be planned yet. Pure."""

from __future__ import annotations

from datetime import datetime

from zerotune_operator.api.status import JobStatus, RootCause
from zerotune_operator.conditions import enter, not_running


def pending(status: JobStatus, reason: str, message: str, cause: RootCause | None, now: datetime) -> JobStatus:
    """The job cannot be planned yet."""
    waiting = status if status.phase == "Restarting" else enter(status, "Pending", reason, message, now)
    return not_running(waiting.model_copy(update={"root_cause": cause or status.root_cause}), reason, message, now)
