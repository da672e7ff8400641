"""What a pod reports is not trusted: whatever it says, the job's status can be written."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kubernetes.recordings import attempt_of, view_of
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import Attempt, JobStatus, RootCause
from zerotune_operator.backends.kubernetes.observe import ClusterView, observe, shape_of_inspection
from zerotune_operator.backends.kubernetes.pod_state import trim_pod
from zerotune_operator.backends.reports import TEXT_LIMIT, Ending, read_ending, read_failure, read_progress
from zerotune_operator.lifecycle.transitions import advance
from zerotune_trainer import errors
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import TERMINATION_MESSAGE_LIMIT, Failure

NOW = datetime(2026, 11, 25, 14, tzinfo=UTC)
FAILURE = {"class": "Data", "message": "row 3", "hint": "look", "rank": 1, "host": "h", "step": 4, "exitCode": 65}
PROGRESS = {"step": 3, "total": 9, "epoch": 0.5, "loss": 1.5, "etaSeconds": 60.0, "tokensPerSecond": 10.0}
PROGRESS |= {"generation": {"rougeL": 0.25, "mine_first": -0.5}}
REPORT = {
    "job": "tune",
    "attempt": 0,
    "host": "host-0",
    "ranks": [{"rank": 0, "phase": "training", "step": 3, "heartbeatAgeSeconds": 0.1, "stepAgeSeconds": 0.1}],
    "progress": PROGRESS,
    "topology": [{"rank": 0, "localRank": 0, "host": "host-0", "hostname": "h", "device": "cpu", "pid": 7}],
    "failure": FAILURE,
    "waitingFor": FAILURE,
    "completion": {
        "jobUid": "u-1",
        "configDigest": "d-1",
        "uri": "s3://bucket/run",
        "files": 1,
        "bytes": 2,
        "progress": PROGRESS,
    },
}
HOSTILE = st.one_of(
    st.sampled_from([1e300, -1e300, float("nan"), float("inf"), 10**30, 10**400, -(10**400), -1, 0, 2**63]),
    st.sampled_from(["x" * 40_000, "\x1b[2J\0"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
)


@st.composite
def tampered(draw: st.DrawFn, report: Any) -> Any:
    """A report in which any value may be another one."""
    if draw(st.integers(0, 8)) == 0:
        return draw(HOSTILE)
    if isinstance(report, dict):
        return {name: draw(tampered(value)) for name, value in report.items()}
    return [draw(tampered(value)) for value in report] if isinstance(report, list) else report


def test_a_metric_of_the_users_may_be_negative() -> None:
    progress = read_progress(json.dumps(REPORT).encode())
    assert progress is not None and progress.progress is not None
    assert progress.progress.generation == {"rougeL": 0.25, "mine_first": -0.5}


@pytest.mark.slow
@given(tampered(REPORT))
def test_a_status_can_be_written_whatever_a_launcher_answers(report: Any) -> None:
    view = view_of("running")
    progress = read_progress(json.dumps(report).encode())
    if progress is None:
        return
    seen = replace(view, progress={pod["metadata"]["name"]: progress for pod in view.pods})
    _require_writable(advance(_running(), observe(attempt_of(view), seen), RunPolicy(), NOW))


@given(tampered(FAILURE) | tampered({"completion": REPORT["completion"]}), st.sampled_from([0, 1, 64, 70, 143]))
def test_a_status_can_be_written_whatever_a_termination_message_says(message: Any, code: int) -> None:
    view = _ended(json.dumps(message), code)
    _require_writable(advance(_running(), observe(attempt_of(view), view), RunPolicy(), NOW))


@given(st.text() | st.binary().map(lambda content: content.decode("latin-1")))
def test_what_is_no_json_is_no_report(report: str) -> None:
    assert read_failure(report) is None or isinstance(json.loads(report), dict)
    assert read_progress(report.encode()) is None


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_a_report_that_is_nested_deeply_is_none(bracket: str) -> None:
    deep = bracket * 30_000
    assert read_failure(deep) is None
    assert read_progress(deep.encode()) is None
    assert read_ending(deep).completion is None


@pytest.mark.parametrize("number", ["9" * 400, "-" + "9" * 400])
def test_an_integer_beyond_any_float_counts_as_not_given(number: str) -> None:
    progress = read_progress(json.dumps(REPORT).replace('"step": 3', f'"step": {number}').encode())
    assert progress is None or progress.progress is None
    failure = read_failure(json.dumps(FAILURE).replace('"exitCode": 65', f'"exitCode": {number}'))
    assert failure is not None
    assert (failure.failure_class, failure.exit_code) == ("Data", 70)
    assert read_ending(number) == Ending()


@pytest.mark.parametrize("eta", ["1e300", "NaN", "Infinity", "-1", "1e9"])
def test_an_absurd_time_to_go_counts_as_not_given(eta: str) -> None:
    progress = read_progress(json.dumps(REPORT).replace("60.0", eta).encode())
    assert progress is not None
    assert progress.progress is not None
    assert (progress.progress.eta_seconds, progress.progress.loss) == (None, 1.5)


@pytest.mark.parametrize("name", ["my own", "Preempted", "Evicted", "Deleted", "QuotaExceeded", ""])
def test_a_class_that_no_launcher_has_is_an_internal_failure(name: str) -> None:
    """A pod that calls itself preempted would be restarted for ever, without a count."""
    failure = read_failure(json.dumps(FAILURE | {"class": name}))
    assert failure is not None
    assert failure.failure_class == "Internal"


LAUNCHERS_OWN = [
    error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.ZerotuneError)
]
"""Errors of the operator that derive from them, without a class of their own, take none of theirs."""


@pytest.mark.parametrize("name", sorted(error.failure_class for error in LAUNCHERS_OWN))
def test_the_classes_of_a_launcher_are_kept(name: str) -> None:
    failure = read_failure(json.dumps(FAILURE | {"class": name}))
    assert failure is not None
    assert failure.failure_class == name


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    failure = read_failure(json.dumps(FAILURE | {"message": "begin " + "x" * 100_000 + " end"}))
    assert failure is not None
    assert len(failure.message) == TEXT_LIMIT
    assert (failure.message[:5], failure.message[-3:]) == ("begin", "end")


def test_what_would_move_the_cursor_of_a_terminal_is_taken_out() -> None:
    failure = read_failure(json.dumps(FAILURE | {"message": "\x1b[2J\x1b[31mlost\x9b\nline"}))
    assert failure is not None
    assert failure.message == "[2J[31mlost\nline"


def test_ranks_that_alternate_between_hosts_are_no_topology() -> None:
    rank = REPORT["topology"][0]  # type: ignore[index]
    entries = [rank | {"rank": number, "host": f"host-{number % 2}"} for number in range(8)]
    progress = read_progress(json.dumps(REPORT | {"topology": entries}).encode())
    assert progress is not None
    assert progress.topology is None


@pytest.mark.parametrize("size", ["layers", "heads", "parameters"])
@pytest.mark.parametrize("value", [0, -1, 10**17])
def test_a_shape_that_no_model_has_is_a_failed_probe(size: str, value: int) -> None:
    shape = ModelShape(
        architecture="a",
        parameters=1,
        largest_layer=1,
        layers=1,
        hidden_size=1,
        kv_size=1,
        heads=1,
        vocab_size=1,
    ).model_dump(by_alias=True, exclude_none=True)
    assert isinstance(shape_of_inspection(_ended(json.dumps({"shape": shape}), 0)), ModelShape)
    assert not isinstance(shape_of_inspection(_ended(json.dumps({"shape": shape | {"baseUri": "x"}}), 0)), ModelShape)
    found = shape_of_inspection(_ended(json.dumps({"shape": shape | {size: value}}), 0))
    assert found is not None
    assert not isinstance(found, ModelShape)


@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\u200f", "\u061c", "\x1b", "\x9b"], ids=ascii)
def test_a_message_keeps_its_lines_and_nothing_that_turns_or_moves_the_text(mark: str) -> None:
    report = {"class": "Data", "message": f"a{mark}b\nc", "hint": mark, "exitCode": 65}
    found = read_failure(json.dumps(report))
    assert found is not None
    assert (found.message, found.hint) == ("ab\nc", "")


def test_a_failed_inspection_names_the_program_that_ran() -> None:
    found = shape_of_inspection(_ended("", 1))
    assert isinstance(found, RootCause)
    assert found.message.startswith("zerotune-inspect on ")


def test_what_a_node_says_of_a_pod_is_kept_in_bounds() -> None:
    pod = view_of("done").pods[0]
    pod["status"]["message"] = "x" * 1_000_000
    pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "A", "message": "y" * 1_000_000}}
    assert len(json.dumps(trim_pod(pod))) < 20_000


@given(
    message=st.text(max_size=50) | st.sampled_from(["x" * 9000, "\0" * 9000, "\U0001f600" * 3000, "\\" * 5000]),
    hint=st.text(max_size=50) | st.sampled_from(["x" * 9000, "\0" * 9000, "\U0001f600" * 3000]),
)
def test_a_termination_message_fits_whatever_its_texts_are(message: str, hint: str) -> None:
    report = Failure(failure_class="Data", message=message, hint=hint, host="h" * 5000, exit_code=65)
    encoded = report.termination_message().encode()
    assert len(encoded) <= TERMINATION_MESSAGE_LIMIT
    assert Failure.model_validate_json(encoded).failure_class == "Data"


def _require_writable(status: JobStatus) -> None:
    """See that the API server takes a status: finite numbers of 64 bits, texts in bounds, conditions with reasons."""
    written = json.dumps(status.model_dump(mode="json", by_alias=True, exclude_none=True), allow_nan=False)
    assert len(written) < 200_000
    JobStatus.model_validate_json(written)
    assert all(abs(number) < 2**63 for number in _integers(json.loads(written)))


def _integers(value: Any) -> list[int]:
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return [number for part in parts for number in _integers(part)]
    return [value] if isinstance(value, int) else []


def _running() -> JobStatus:
    return JobStatus(phase="Running", attempts=[Attempt(number=0)])


def _ended(message: str, code: int) -> ClusterView:
    """Pods that ended with this termination message."""
    view = view_of("done")
    for pod in view.pods:
        pod["status"]["phase"] = "Failed" if code else "Succeeded"
        ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        ended |= {"message": message, "exitCode": code, "reason": "Error" if code else "Completed"}
    return view
