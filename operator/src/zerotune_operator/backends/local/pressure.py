"""When nodes that still run are told to stop, and when they are killed. Pure.

Kubernetes does this by itself when a pod of a Job fails; here the runner does.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.base import Observation
from zerotune_trainer.errors import StoppedError

PEER_GRACE_SECONDS = 15
"""How long nodes have, after another one failed, to notice by themselves and say what they saw."""
KILL_GRACE_SECONDS = 60
"""How long nodes have to end after they were told to."""


class Pressure(Enum):
    """What is done to the nodes that still run."""

    NONE = "none"
    STOP = "stop"
    KILL = "kill"


def pressure(status: JobStatus, seen: Observation, now: datetime) -> Pressure:
    """What is to be done after a node failed, or after the job did (its deadline)."""
    harmless = (0, StoppedError.exit_code)
    failures = [node.ended_at for node in seen.nodes if node.ended_at and node.exit_code not in harmless]
    if status.phase == "Failed" and status.completion_time is not None:
        return _after((now - status.completion_time).total_seconds(), 0)
    if failures:
        return _after((now - min(failures)).total_seconds(), PEER_GRACE_SECONDS)
    return Pressure.NONE


def _after(seconds: float, grace: float) -> Pressure:
    if seconds < grace:
        return Pressure.NONE
    return Pressure.STOP if seconds < grace + KILL_GRACE_SECONDS else Pressure.KILL
