"""What a cluster shows of an attempt -> Observation."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kubernetes.recordings import FOLDER, attempt_of, nodes_of, recording, view_of
from zerotune_operator.api.status import OutputSummary, RootCause
from zerotune_operator.backends.kubernetes.job_state import QUEUE_LABEL, JobState
from zerotune_operator.backends.kubernetes.observe import ClusterView, observe, shape_of_inspection
from zerotune_operator.backends.kubernetes.pod_state import trim_pod
from zerotune_operator.lifecycle.observation import NodeObservation, Observation
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import Failure
from zerotune_trainer.progress import Completion, NodeProgress, Progress

LAST = Progress(step=9, total=9, loss=1.5)
RESULT = OutputSummary(uri="s3://bucket/run", step=9, files=7, bytes=1234)
SHAPE = ModelShape(
    architecture="LlamaForCausalLM",
    parameters=100_000,
    largest_layer=50_000,
    layers=2,
    hidden_size=64,
    kv_size=64,
    heads=4,
    vocab_size=512,
)


def states(view: ClusterView) -> list[tuple[str, str | None]]:
    nodes = observe(attempt_of(view), view).nodes
    return [(node.state, node.failure.failure_class if node.failure else None) for node in nodes]


def with_job(view: ClusterView, *, spec: dict[str, Any] | None = None, **metadata: Any) -> ClusterView:
    assert view.job is not None
    job = view.job | {"metadata": view.job["metadata"] | metadata, "spec": view.job["spec"] | (spec or {})}
    return replace(view, job=job)


def test_a_running_attempt_shows_its_pods_and_what_they_answered() -> None:
    answer = NodeProgress(job="j", attempt=0, host="host-1", ranks=[])
    view = replace(view_of("running"), progress={"running-a0-1-q6jp4": answer})
    assert observe(attempt_of(view), view) == Observation(
        0,
        (
            NodeObservation("host-0", "running", pod="running-a0-0-qqflt", node="test-bed"),
            NodeObservation("host-1", "running", pod="running-a0-1-q6jp4", node="test-bed", progress=answer),
        ),
        closed=False,
    )


def test_a_job_that_was_just_made_waits_for_its_pods() -> None:
    view = replace(view_of("running"), pods=())
    assert states(view) == [("waiting", None), ("waiting", None)]


def test_a_result_lies_where_its_job_says_whatever_its_pod_says() -> None:
    view = view_of("done")
    ended = datetime(2026, 11, 25, 13, 35, 57, tzinfo=UTC)
    nodes = tuple(
        NodeObservation(f"host-{index}", "ended", 0, ended, pod=pod, node="test-bed")
        for index, pod in enumerate(("done-a0-0-mnc87", "done-a0-1-8gfx6"))
    )
    assert observe(attempt_of(view), view) == Observation(0, nodes, RESULT, LAST)


@pytest.mark.parametrize("other", [{"job_uid": "u-2"}, {"config_digest": "d-2"}])
def test_the_result_of_another_job_or_configuration_is_none(other: dict[str, str]) -> None:
    view = view_of("done")
    seen = observe(replace(attempt_of(view), **other), view)
    assert (seen.output, seen.final) == (None, None)


def test_the_result_counts_only_when_every_node_has_ended() -> None:
    view = view_of("done")
    one = replace(view, pods=tuple(pod for pod in view.pods if pod["metadata"]["name"].startswith("done-a0-0")))
    running = with_job(one)
    assert running.job is not None
    running.job["status"] = {"completedIndexes": "0"}
    seen = observe(attempt_of(running), running)
    assert [node.state for node in seen.nodes] == ["ended", "waiting"]
    assert seen.output is None


def test_a_result_that_the_launcher_reported_over_http_counts_too() -> None:
    view = view_of("done")
    completion = Completion(job_uid="u-1", config_digest="d-1", uri="s3://another/run", files=1, bytes=2, progress=LAST)
    answer = NodeProgress(job="j", attempt=0, host="host-0", ranks=[], completion=completion)
    without = replace(view, pods=(), progress={"done-a0-0-mnc87": answer})
    assert observe(attempt_of(without), without).output is None, "its pod is deleted: nothing shows whose answer it was"
    for pod in view.pods:
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = ""
    silent = replace(view, progress={"done-a0-0-mnc87": answer})
    assert observe(attempt_of(silent), silent).output == OutputSummary(uri="s3://bucket/run", step=9, files=1, bytes=2)


def test_a_command_of_the_users_own_that_ends_well_is_no_launcher() -> None:
    view = view_of("done")
    for pod in view.pods:
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = ""
    first, second = observe(attempt_of(view), view).nodes
    assert (first.exit_code, second.exit_code) == (64, 0)
    assert first.failure is not None
    assert first.failure.failure_class == "ContainerStart"
    assert "zerotune-launch did not run in it" in first.failure.message


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("deleted", [("ended", "Deleted"), ("running", None)]),
        ("evicted", [("ended", "Deleted"), ("running", None)]),
        ("preempted", [("ended", "Deleted")]),
        ("suspended", [("ended", "Stopped"), ("ended", "Stopped")]),
        ("stopped", [("ended", "Stopped"), ("ended", "Stopped")]),
    ],
)
def test_a_pod_that_has_disappeared_has_ended(name: str, seen: list[tuple[str, str]]) -> None:
    assert states(view_of(name, deleted=False)) == seen


def test_a_completed_pod_that_was_cleared_away_has_ended_well() -> None:
    view = replace(view_of("done"), pods=())
    assert observe(attempt_of(view), view).nodes[0] == NodeObservation("host-0", "ended", 0)


@pytest.mark.parametrize("job", ["deleted", "terminating", "suspended", "with a deadline"])
def test_pods_that_end_with_their_job_have_stopped(job: str) -> None:
    view = view_of("deleted")
    attempt = attempt_of(view)
    stopped = {
        "deleted": replace(view, job=None),
        "terminating": with_job(view, deletionTimestamp="2026-11-25T13:36:50Z"),
        "suspended": with_job(view, spec={"suspend": True}),
        "with a deadline": with_job(view, spec={"activeDeadlineSeconds": 1}),
    }[job]
    nodes = observe(attempt, stopped).nodes
    assert [(node.state, node.disrupted) for node in nodes] == [("ended", False), ("running", False)]
    assert nodes[0].failure is not None
    assert nodes[0].failure.failure_class == "Stopped"


_ENDS = {"type": "Complete", "status": "True"}


@pytest.mark.parametrize(
    ("closed", "job"),
    [
        (False, {}),
        (False, {"spec": {"suspend": True}}),
        (False, {"spec": {"activeDeadlineSeconds": 1}}),
        (False, {"status": {"failedIndexes": "0,1"}}),
        (False, {"status": {"completedIndexes": "0,1"}}),
        (False, {"status": {"conditions": [{"type": "FailureTarget", "status": "True"}]}}),
        (False, {"status": {"conditions": [_ENDS | {"status": "False"}]}}),
        (True, {"status": {"conditions": [_ENDS]}}),
        (True, {"status": {"conditions": [_ENDS | {"type": "Failed"}]}}),
        (True, {"metadata": {"deletionTimestamp": "2026-11-25T13:36:50Z"}}),
        (True, None),
    ],
)
def test_an_attempt_is_closed_when_its_job_can_make_no_pod(closed: bool, job: dict[str, Any] | None) -> None:
    plain = {"metadata": {"name": "any", "labels": {}}, "spec": {}, "status": {}}
    made = None if job is None else {name: plain[name] | job.get(name, {}) for name in plain}
    seen = observe(attempt_of(view_of("done")), replace(view_of("suspended", deleted=False), job=made))
    assert seen.closed is closed


def test_a_job_in_a_queue_waits_also_where_its_pods_have_been_taken_back() -> None:
    for deleted in (True, False):
        view = with_job(view_of("suspended", deleted=deleted), labels={QUEUE_LABEL: "team"})
        seen = observe(attempt_of(view), view)
        assert seen.queued
        assert states(view) == [("waiting", None), ("waiting", None)]
    assert not observe(attempt_of(view), view_of("suspended")).queued


def test_a_job_that_its_queue_lets_go_on_waits_for_new_pods_and_has_lost_none() -> None:
    """A moment after it is no longer suspended it has a new start time, and after that its pods."""
    view = with_job(view_of("suspended"), spec={"suspend": False}, labels={QUEUE_LABEL: "team"})
    assert view.job is not None
    assert states(view) == [("waiting", None), ("waiting", None)]
    going_on = {"conditions": [], "startTime": "2100-01-01T00:00:00Z"}
    assert states(replace(view, job=view.job | {"status": going_on})) == [("waiting", None), ("waiting", None)]
    taken = {"conditions": [], "startTime": "2000-01-01T00:00:00Z"}
    assert states(replace(view, job=view.job | {"status": taken})) == [("ended", "Deleted"), ("ended", "Deleted")]


def test_a_pod_that_is_being_deleted_runs_until_its_launcher_has_ended() -> None:
    view = view_of("running")
    view.pods[0]["metadata"]["deletionTimestamp"] = "2026-11-25T13:36:50Z"
    assert states(view)[0] == ("running", None)


def test_of_two_pods_of_an_index_the_one_that_is_not_being_deleted_counts() -> None:
    view = view_of("running")
    old = recording("deleted")["deleted"][0]
    for pods in ((old, *view.pods), (*view.pods, old)):
        assert states(replace(view, pods=pods)) == [("running", None), ("running", None)]


def test_a_launcher_killed_without_a_word_has_ended_by_the_signal() -> None:
    view = view_of("silent")
    assert nodes_of("silent")[0].exit_code == 1
    state = view.pods[0]["status"]["containerStatuses"][0]["state"]["terminated"]
    for code, seen in ((137, -9), (139, -11), (143, 143), (250, 250)):
        state["exitCode"] = code
        assert observe(attempt_of(view), view).nodes[0].exit_code == seen


@given(st.sets(st.integers(0, 60)))
def test_indexes_are_read_as_the_job_controller_writes_them(indexes: set[int]) -> None:
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    text = ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    job = JobState({"metadata": {}, "spec": {}, "status": {"completedIndexes": text, "failedIndexes": text}})
    assert {index for index in range(70) if job.succeeded(index)} == indexes
    assert {index for index in range(70) if job.is_over(index)} == indexes


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_nothing_that_is_seen_is_trimmed_away(path: Any) -> None:
    found = json.loads(path.read_text())
    if "job" not in found:
        assert len(json.dumps(trim_pod(found))) < len(json.dumps(found)) / 3
        assert trim_pod(trim_pod(found)) == trim_pod(found)
        return
    whole = view_of(path.stem)
    trimmed = replace(whole, pods=tuple(trim_pod(pod) for pod in whole.pods))
    assert observe(attempt_of(whole), trimmed) == observe(attempt_of(whole), whole)


def inspected(message: str, exit_code: int = 0) -> ClusterView:
    view = view_of("silent")
    state = view.pods[0]["status"]["containerStatuses"][0]["state"]["terminated"]
    state |= {"exitCode": exit_code, "message": message}
    view.pods[0]["metadata"].pop("annotations")
    return view


def test_an_inspection_reports_the_shape_of_the_model() -> None:
    message = json.dumps({"shape": SHAPE.model_dump(by_alias=True, exclude_none=True, mode="json")})
    assert shape_of_inspection(inspected(message)) == SHAPE


def test_an_inspection_that_waits_is_distinguished_from_one_that_failed() -> None:
    assert shape_of_inspection(view_of("running")) is None
    placed, rejected = (shape_of_inspection(view_of(name)) for name in ("no-claim", "no-account"))
    assert isinstance(placed, RootCause)
    assert isinstance(rejected, RootCause)
    assert (placed.exit_code, rejected.exit_code) == (None, None)
    missing = Failure(failure_class="InputMissing", message="no config.json", exit_code=66)
    view = inspected(missing.termination_message(), 66)
    assert shape_of_inspection(view) == RootCause(
        failure_class="InputMissing",
        message="no config.json",
        exit_code=66,
        pod=view.pods[0]["metadata"]["name"],
        node="test-bed",
    )
    silent = shape_of_inspection(inspected("", 1))
    assert isinstance(silent, RootCause)
    assert silent.exit_code == 1


def test_an_inspection_names_the_pod_that_waits_and_its_machine() -> None:
    waits, node = shape_of_inspection(view_of("image-never")), nodes_of("image-never")[0]
    assert node.failure is not None
    assert waits == RootCause(
        failure_class="ImagePull", message=node.failure.message, hint=node.failure.hint, pod=node.pod, node="test-bed"
    )


def test_an_inspection_without_a_shape_has_failed() -> None:
    found = shape_of_inspection(inspected("all is well"))
    assert isinstance(found, RootCause)
    assert (found.failure_class, found.exit_code) == ("Internal", 70)
    assert "no shape" in found.message
