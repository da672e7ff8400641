"""Messages that a cluster repeats with other figures: no news, no Event, no status patch."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.status.attempts import START, at, seen, waiting
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import JobStatus, RootCause
from zerotune_operator.lifecycle.job_events import changes
from zerotune_operator.lifecycle.messages import normalized
from zerotune_operator.lifecycle.observation import Observation
from zerotune_operator.lifecycle.pending import pending
from zerotune_operator.lifecycle.transitions import advance
from zerotune_trainer.errors import Failure

SAME = [
    ('Pod "a-0a1b2c3d-a0-0-x7k2p" is invalid: no', 'Pod "a-0a1b2c3d-a0-0-zz9bb" is invalid: no'),
    ("pod a-0a1b2c3d-a0-1-x7k2p is away", "pod a-0a1b2c3d-a1-0-bbbbb is away"),
    ("no node takes the pod (of 5): 1 Insufficient cpu", "no node takes the pod (of 16): 12 Insufficient cpu"),
    ("0/5 nodes are available", "3/12 nodes are available"),
    (
        "exceeded quota: a, used: requests.cpu=3, limited: x=16Mi",
        "exceeded quota: a, used: requests.cpu=4, limited: x=8Mi",
    ),
    ("back-off 10s restarting failed container", "back-off 1m20s restarting failed container"),
    ("since 2026-11-28T23:03:44Z nothing", "since 2026-11-29T00:00:01.5+01:00 nothing"),
    ("dial tcp 10.0.0.7:443: connect", "dial tcp 10.0.1.17:8443: connect"),
    ("attempt 3 of uid 0b5a3f8e-8d0a-4c39-9c5e-3f0a7a6f0d11", "attempt 4 of uid 9b5a3f8e-8d0a-4c39-9c5e-3f0a7a6f0d12"),
]
DIFFERENT = [
    ('secret "keys-1" not found', 'secret "keys-2" not found'),
    ("persistentvolumeclaim data-1 not found", "persistentvolumeclaim data-2 not found"),
    ("the image trainer:1.2 cannot be pulled", "the image trainer:1.3 cannot be pulled"),
    ("no node takes the pod (of 5): 1 Insufficient cpu", "no node takes the pod (of 5): 1 Insufficient memory"),
    ('Pod "x" is invalid: must be less than cpu limit', 'Pod "x" is invalid: must be less than memory limit'),
]


def observation_of(message: str) -> Observation:
    """A node that waits for what a message says."""
    failure = Failure(failure_class="Forbidden", message=message, hint="do something", exit_code=75)
    return seen(replace(waiting("a"), failure=failure))


@pytest.mark.parametrize(("one", "other"), SAME)
def test_other_figures_change_neither_status_nor_events(one: str, other: str) -> None:
    status = advance(START, observation_of(one), RunPolicy(), at(10))
    again = advance(status, observation_of(other), RunPolicy(), at(20))
    assert again == status
    assert changes(status, again) == []


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_reason_is_reported(one: str, other: str) -> None:
    status = advance(START, observation_of(one), RunPolicy(), at(10))
    again = advance(status, observation_of(other), RunPolicy(), at(20))
    assert again.root_cause is not None
    assert again.root_cause.message == other
    assert [event.type for event in changes(status, again)] == ["Warning"]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_job_without_a_plan_does_not_report_other_figures_either(one: str, other: str) -> None:
    first, second = (RootCause(failure_class="Temporary", message=message) for message in (one, other))
    status = pending(JobStatus(), "Temporary", one, first, at(1))
    assert pending(status, "Temporary", other, second, at(2)) == status
    assert pending(status, "ModelInspection", "a pod reads it", second, at(2)).conditions[0].message == "a pod reads it"


@given(st.text(alphabet=st.characters(blacklist_characters='"')), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_number_that_stands_alone_never_counts(text: str, one: int, other: int) -> None:
    assert normalized(f"{text} and {one} of them") == normalized(f"{text} and {other} of them")


@given(st.text(alphabet=st.characters(blacklist_characters='"')))
def test_a_quoted_name_always_counts(name: str) -> None:
    assert normalized(f'secret "{name}1" not found') != normalized(f'secret "{name}2" not found')
