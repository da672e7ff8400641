"""`spec.runPolicy`: what happens around a run."""

from __future__ import annotations

from pydantic import Field

from zerotune_trainer.config.base import ObjectName, Settings

_LONGEST_SECONDS = 2**31 - 1
"""68 years, as in Kubernetes."""


class RunPolicy(Settings):
    """What happens around a run."""

    suspend: bool = False
    """Stop the pods after a checkpoint and keep everything else; set back to false, the job goes on from there."""
    max_restarts: int = Field(default=3, ge=0)
    """How often a failed job starts again from its last checkpoint. Configuration and data errors are never retried,
    preemption and eviction do not count."""
    active_deadline_seconds: int | None = Field(default=None, ge=1, le=_LONGEST_SECONDS)
    """The job fails when it has run this long, restarts included."""
    ttl_seconds_after_finished: int | None = Field(default=None, ge=0, le=_LONGEST_SECONDS)
    """The finished resource is deleted after this time."""
    hang_timeout_seconds: int = Field(default=1800, ge=10, le=_LONGEST_SECONDS)
    """A rank without progress for this long is a hang: the rank is named and the job restarts."""
    queue: str | None = Field(default=None, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    """Kueue LocalQueue that admits the job; of a job that waits or runs already, its next attempt."""
    priority_class: ObjectName | None = None
    """PriorityClass of the pods; of a job that waits or runs already, of its next attempt."""
