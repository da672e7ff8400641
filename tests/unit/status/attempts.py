"""Nodes of a cluster, and what comes of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from zerotune_operator.api.plan_summary import PlanSummary
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import JobStatus
from zerotune_operator.lifecycle.observation import NodeObservation, Observation
from zerotune_operator.lifecycle.transitions import advance, planned
from zerotune_trainer.errors import Failure

T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PLAN = PlanSummary(
    backend="kubernetes", nodes=2, world_size=4, global_batch_size=8, per_device_batch_size=2, zero_stage=3
)


def at(seconds: float) -> datetime:
    """A time."""
    return T0 + timedelta(seconds=seconds)


def failure(kind: str, exit_code: int = 75) -> Failure:
    """A failure of some kind."""
    return Failure(failure_class=kind, message=f"{kind} happened", hint="do something", exit_code=exit_code)


def waiting(host: str, kind: str | None = None) -> NodeObservation:
    """A node that waits, for something that comes by itself or for something of some kind."""
    return NodeObservation(host, "waiting", failure=failure(kind) if kind else None, pod=f"pod-{host}", node="n-1")


def running(host: str) -> NodeObservation:
    """A node that runs."""
    return NodeObservation(host, "running", pod=f"pod-{host}", node="n-1")


def ended(host: str, kind: str = "", exit_code: int = 0, seconds: float | None = 5) -> NodeObservation:
    """A node that ended, by a failure of some kind."""
    return NodeObservation(
        host,
        "ended",
        exit_code,
        None if seconds is None else at(seconds),
        failure(kind, exit_code) if kind else None,
        pod=f"pod-{host}",
        node="n-1",
    )


def seen(*nodes: NodeObservation, attempt: int = 0, queued: bool = False, closed: bool = True) -> Observation:
    """An observation of these nodes."""
    return Observation(attempt, nodes, queued=queued, closed=closed)


def status_after(*observations: Observation, policy: RunPolicy | None = None) -> JobStatus:
    """The status after some observations, 10 seconds apart."""
    status = START
    for number, observation in enumerate(observations, start=1):
        status = advance(status, observation, policy or RunPolicy(), at(10 * number))
    return status


START = planned(JobStatus(observed_generation=3), PLAN, T0)
