"""Which attempts a job has had by its status, and which one is due. Pure."""

from __future__ import annotations

from zerotune_operator.api.status import JobStatus, Phase

FINAL: frozenset[Phase | None] = frozenset({"Succeeded", "Failed"})

ACTIVE: frozenset[Phase | None] = frozenset({"Planned", "Queued", "Running", "Restarting"})


def next_attempt(status: JobStatus) -> int:
    """The number of the attempt to start next."""
    return status.attempts[-1].number + 1 if status.attempts else 0


def under_way(status: JobStatus) -> bool:
    """Whether there is an attempt that has not ended: it waits, runs, or is being stopped."""
    return bool(status.attempts) and status.attempts[-1].outcome == "Running"


def current_attempt(status: JobStatus) -> int:
    """The number of the attempt that is under way, else of the one to start."""
    return status.attempts[-1].number if under_way(status) else next_attempt(status)


def has_made_steps(status: JobStatus) -> bool:
    """Whether any attempt has: from then on the job's output and checkpoints hold work of its spec."""
    reached = [attempt.last_step for attempt in status.attempts]
    return any(reached) or (status.progress is not None and status.progress.step > 0)
