"""What is written of a status, and when: what differs, and not too much at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.aio.client import Configuration

from zerotune_operator.api.status import Attempt, JobStatus
from zerotune_operator.backends.kubernetes.cache import Cache, Key
from zerotune_operator.backends.kubernetes.client import ClusterClient
from zerotune_operator.backends.kubernetes.connection import Connection
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.controller.status_writer import StatusWriter, event, merge_patch
from zerotune_operator.lifecycle.job_events import EventText

RESOURCE = {
    "apiVersion": "zerotune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "cpt", "namespace": "team", "uid": "1234", "creationTimestamp": "2026-01-01T23:59:00Z"},
}
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

_leaves = st.integers() | st.text(max_size=3) | st.booleans() | st.lists(st.integers(), max_size=2)
_values = st.recursive(_leaves, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8)
_objects = st.dictionaries(st.sampled_from("abc"), _values, max_size=3)


def apply(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = apply(result.get(name), value)
    return result


@pytest.mark.slow
@given(_objects, _objects)
def test_the_patch_makes_the_old_into_the_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert apply(old, merge_patch(old, new)) == new


@given(_objects)
def test_what_is_the_same_needs_no_patch(value: dict[str, Any]) -> None:
    assert merge_patch(value, value) == {}


def test_an_event_says_what_it_is_about_and_has_the_same_name_when_written_again() -> None:
    text = EventText("Warning", "Failed", "x" * 2000)
    made = event(RESOURCE, text, NOW)

    assert made == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": made["metadata"]["name"], "namespace": "team"},
        "involvedObject": {
            "apiVersion": "zerotune.dev/v1alpha1",
            "kind": "FineTuneJob",
            "name": "cpt",
            "namespace": "team",
            "uid": "1234",
        },
        "type": "Warning",
        "reason": "Failed",
        "message": "x" * 1024,
        "source": {"component": "zerotune"},
        "firstTimestamp": "2026-01-02T03:04:05Z",
        "lastTimestamp": "2026-01-02T03:04:05Z",
        "count": 1,
    }
    before_midnight = event(RESOURCE, text, datetime(2026, 1, 1, 23, 59, 30, tzinfo=UTC))
    a_day_later = event(RESOURCE, text, NOW + timedelta(days=1))
    assert before_midnight["metadata"]["name"] == made["metadata"]["name"]
    assert a_day_later["metadata"]["name"] != made["metadata"]["name"]
    assert event(RESOURCE, EventText("Normal", "Started", ""), NOW)["metadata"]["name"] != made["metadata"]["name"]


BEGUN = JobStatus(phase="Planned", attempts=[Attempt(number=0)])
ENDED = JobStatus(phase="Failed", attempts=[Attempt(number=0, outcome="Failed", end_time=NOW)])
RESTARTING = JobStatus(phase="Restarting", attempts=[Attempt(number=0, outcome="Failed", end_time=NOW)])
LONGEST = 10.0


def test_of_many_jobs_that_begin_at_once_the_first_are_shown_without_delay() -> None:
    async def run() -> list[float]:
        writer = _writer()
        return [writer.defer(_key(number), _version(1), JobStatus(), BEGUN) for number in range(200)]

    delays = asyncio.run(run())
    at_once = delays.count(0.0)
    assert delays == [0.0] * at_once + [LONGEST] * (200 - at_once)
    assert 1 <= at_once <= 10


@pytest.mark.parametrize(
    ("before", "status", "seconds"),
    [
        (JobStatus(), BEGUN, LONGEST),
        (RESTARTING, RESTARTING.model_copy(update={"attempts": [*RESTARTING.attempts, Attempt(number=1)]}), LONGEST),
        (BEGUN, BEGUN.model_copy(update={"phase": "Running"}), 0.0),
        (BEGUN, ENDED, 0.0),
        (JobStatus(), JobStatus(phase="Pending"), 0.0),
        (JobStatus(), BEGUN.model_copy(update={"phase": "Failed"}), 0.0),
    ],
    ids=["begins", "begins again", "runs", "has ended", "waits", "is past its deadline"],
)
def test_only_the_beginning_of_an_attempt_is_deferred(before: JobStatus, status: JobStatus, seconds: float) -> None:
    async def run() -> float:
        writer = _busy_writer()
        return writer.defer(_key(0), _version(1), before, status)

    assert asyncio.run(run()) == seconds


def test_a_status_is_deferred_once_and_until_the_spec_changes() -> None:
    async def run() -> None:
        writer, key = _busy_writer(), _key(0)
        assert writer.deferred_seconds(key, _version(1)) == 0
        assert writer.defer(key, _version(1), JobStatus(), BEGUN) == LONGEST
        assert 0 < writer.deferred_seconds(key, _version(1)) <= LONGEST
        assert writer.deferred_seconds(key, _version(2)) == 0, "its spec has changed"
        assert writer.deferred_seconds(key, _version(1) | {"metadata": {"uid": "another"}}) == 0, "it is another one"
        assert writer.defer(key, _version(2), JobStatus(), BEGUN) == 0, "it was deferred before"

    asyncio.run(run())


def test_what_is_deferred_of_a_deleted_job_is_forgotten() -> None:
    async def run() -> None:
        writer, key = _busy_writer(), _key(0)
        writer.defer(key, _version(1), JobStatus(), BEGUN)
        writer.forget(key)
        assert writer.deferred_seconds(key, _version(1)) == 0

    asyncio.run(run())


def _writer() -> StatusWriter:
    """One whose API server is never asked."""
    return StatusWriter(ClusterClient(Connection(Configuration())), Cache(), LONGEST)


def _busy_writer() -> StatusWriter:
    """One that has just written as many statuses as its rate allows."""
    writer = _writer()
    while writer.defer(_key(999), _version(1), JobStatus(), BEGUN) == 0:
        pass
    writer.forget(_key(999))
    return writer


def _key(number: int) -> Key:
    return Key("FineTuneJob", "team", f"job-{number}")


def _version(generation: int) -> Object:
    return {"metadata": {"uid": "1234", "generation": generation}}
