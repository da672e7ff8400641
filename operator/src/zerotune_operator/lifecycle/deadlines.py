"""What is due by the clock: the deadline, the end of the patience with the nodes of a failed attempt, the TTL. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import takewhile

from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import JobStatus
from zerotune_operator.lifecycle.observation import CAPACITY, Observation
from zerotune_operator.lifecycle.replicas import failed_nodes

STRAGGLER_SECONDS = 30
"""How long the nodes of an attempt may go on after one of them failed: to notice, to report what they saw, to save."""

_LONGEST_PAUSE_SECONDS = 30
_CAPACITY_PAUSE_SECONDS, _LONGEST_CAPACITY_PAUSE_SECONDS = 60, 1800
"""Capacity that was not there comes back within minutes or hours."""


def pause(status: JobStatus, now: datetime) -> float:
    """Seconds until the next attempt may start: the pause doubles after every restart that counts, and after every
    attempt in a row for which there was no capacity.
    """
    if status.phase != "Restarting" or not status.attempts or status.attempts[-1].end_time is None:
        return 0.0
    without = sum(1 for _ in takewhile(lambda each: each.failure_class == CAPACITY, reversed(status.attempts)))
    if without:
        seconds = min(_CAPACITY_PAUSE_SECONDS * 2 ** (without - 1), _LONGEST_CAPACITY_PAUSE_SECONDS)
        return _left(status.attempts[-1].end_time, seconds, now)
    return _left(status.attempts[-1].end_time, min(2**status.restarts, _LONGEST_PAUSE_SECONDS), now)


def overdue(status: JobStatus, policy: RunPolicy, now: datetime) -> bool:
    """Whether the job has run for longer than it may."""
    return deadline_in(status, policy, now) == 0


def expires_in(status: JobStatus, policy: RunPolicy, now: datetime) -> float | None:
    """Seconds until the finished resource is to be deleted, 0 where that is due. None: it is not to be."""
    if policy.ttl_seconds_after_finished is None or status.completion_time is None:
        return None
    return _left(status.completion_time, policy.ttl_seconds_after_finished, now)


def ends_by_clock(status: JobStatus, policy: RunPolicy, now: datetime) -> bool:
    """Whether the job is to fail, or to be deleted, for no other reason than the time."""
    return overdue(status, policy, now) or expires_in(status, policy, now) == 0


def deadline_in(status: JobStatus, policy: RunPolicy, now: datetime) -> float | None:
    """Seconds until the job has run for as long as it may, 0 where that is past. None: no end is set, or it rests."""
    at_rest = status.phase == "Suspended" or status.completion_time is not None
    if policy.active_deadline_seconds is None or status.start_time is None or at_rest:
        return None
    return _left(status.start_time, policy.active_deadline_seconds, now)


def has_failed(seen: Observation) -> bool:
    """Whether nodes ended in failure, so that the attempt fails."""
    return bool(failed_nodes(seen))


def seconds_since_failure(seen: Observation, now: datetime) -> float | None:
    """How long ago the first node ended in failure; long ago where its pod was deleted. None: none has."""
    failed = failed_nodes(seen)
    if not failed:
        return None
    if any(node.ended_at is None for node in failed):
        return float("inf")
    return max((now - node.ended_at).total_seconds() for node in failed if node.ended_at)


def seconds_since_end(seen: Observation, now: datetime) -> float:
    """How long ago the last of the nodes ended; long ago where no pod is there to report it."""
    times = [node.ended_at for node in seen.nodes if node.ended_at is not None]
    return (now - max(times)).total_seconds() if times else float("inf")


def stragglers(seen: Observation, now: datetime) -> bool:
    """Whether nodes go on for too long after another one failed: a lost node may leave a peer that waits for it. Or
    after one of several replicas has written the result: the others then find it and end.
    """
    if seen.all_ended:
        return False
    if seen.output is not None:
        return seconds_since_end(seen, now) >= STRAGGLER_SECONDS
    seconds = seconds_since_failure(seen, now)
    return seconds is not None and seconds >= STRAGGLER_SECONDS


def _left(since: datetime, seconds: int, now: datetime) -> float:
    return max(0.0, (since + timedelta(seconds=seconds) - now).total_seconds())
