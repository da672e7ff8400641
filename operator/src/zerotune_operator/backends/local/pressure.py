"""When nodes that still run are told to stop, and when they are killed. Pure.

Kubernetes does this by itself when a pod of a Job fails; here the runner does.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from zerotune_operator.api.status import JobStatus
from zerotune_operator.lifecycle.deadlines import seconds_since_failure
from zerotune_operator.lifecycle.observation import Observation

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
    if status.phase == "Failed" and status.completion_time is not None:
        return _after((now - status.completion_time).total_seconds(), 0)
    seconds = seconds_since_failure(seen, now)
    return Pressure.NONE if seconds is None else _after(seconds, PEER_GRACE_SECONDS)


def _after(seconds: float, grace: float) -> Pressure:
    if seconds < grace:
        return Pressure.NONE
    return Pressure.STOP if seconds < grace + KILL_GRACE_SECONDS else Pressure.KILL
