"""A job that cannot be observed for a while: its status says since when, until it is observed again."""

from __future__ import annotations

import pytest

from tests.unit.status.attempts import START, at, running, seen, status_after, waiting
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import JobStatus, RootCause
from zerotune_operator.lifecycle.conditions import unknown_since
from zerotune_operator.lifecycle.observation import Observation
from zerotune_operator.lifecycle.transitions import advance, unobserved

CAUSE = RootCause(failure_class="Temporary", message="AWS did not answer", hint="it is tried again", exit_code=75)
RUNS, WAITS = seen(running("a"), running("b")), seen(running("a"), waiting("b"))


def running_condition(status: JobStatus) -> str | None:
    return next((each.status for each in status.conditions if each.type == "Running"), None)


@pytest.mark.parametrize("before", [RUNS, WAITS], ids=["runs", "waits"])
@pytest.mark.parametrize(("after", "value"), [(RUNS, "True"), (WAITS, "False")], ids=["runs", "waits"])
def test_nobody_knows_whether_it_runs_until_it_is_observed_again(
    before: Observation, after: Observation, value: str
) -> None:
    known = status_after(before)
    found = unobserved(known, CAUSE, at(20))
    assert (found.phase, running_condition(found), unknown_since(found)) == (known.phase, "Unknown", at(20))
    assert found.root_cause is not None
    assert found.root_cause.message == f"AWS did not answer; the job was observed last at {at(20):%Y-%m-%dT%H:%M:%SZ}"
    assert unobserved(found, CAUSE, at(30)) == found, "since when does not change"
    another = unobserved(found, CAUSE.model_copy(update={"message": "the keys are wrong"}), at(30))
    assert (another.root_cause and another.root_cause.message, unknown_since(another)) == (
        f"the keys are wrong; the job was observed last at {at(20):%Y-%m-%dT%H:%M:%SZ}",
        at(20),
    )

    seen_again = advance(found, after, RunPolicy(), at(40))
    assert running_condition(seen_again) == value
    assert unknown_since(seen_again) is None
    assert seen_again.root_cause is None or seen_again.root_cause.message != found.root_cause.message


def test_what_kept_a_restart_from_being_observed_is_not_its_cause_afterwards() -> None:
    restarting = status_after(WAITS).model_copy(update={"phase": "Restarting"})
    found = advance(unobserved(restarting, CAUSE, at(20)), WAITS, RunPolicy(), at(30))
    assert (found.phase, found.root_cause) == ("Restarting", None)


def test_of_a_job_of_which_nothing_runs_only_the_cause_is_noted() -> None:
    assert unobserved(START, CAUSE, at(20)) == START.model_copy(update={"root_cause": CAUSE})
