"""A pod deleted in mid-training: the job goes on from its last checkpoint, and ends as if nothing had happened."""

from __future__ import annotations

import time

import pytest

from zerotune_devtools.harness.jobs import SAVE_STEPS, STEPS, fine_tune_job
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.harness.volume import Volume

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def disturbed(namespace: Namespace, volume: Volume, succeeded: Object, figures: dict[str, str]) -> Object:
    """Status of a job like `cpt` that lost its second pod on the way."""
    namespace.apply(fine_tune_job("disturbed"))
    namespace.step("ftj/disturbed", SAVE_STEPS + 2)
    namespace.kubectl("delete", "pod", "--selector", _SECOND, "--grace-period=0", "--force")
    died = time.monotonic()
    namespace.until("ftj/disturbed", _has_resumed)
    figures["pod's death to the next training step"] = f"{time.monotonic() - died:.1f} s"
    return namespace.phase("ftj/disturbed", "Succeeded")


_SECOND = "zerotune.dev/job-name=disturbed,batch.kubernetes.io/job-completion-index=1"


def _has_resumed(job: Object) -> bool:
    newest = job["status"]["attempts"][-1]
    return newest["number"] == 1 and newest.get("lastStep", 0) > newest.get("firstStep", 0)


def test_the_next_attempt_resumes_from_the_last_checkpoint_and_is_not_counted(disturbed: Object) -> None:
    """Ranks that are asked to end save first: that may be one more than the job would have made by itself."""
    first, second = disturbed["attempts"]
    assert (first["outcome"], first["failureClass"], first["firstStep"]) == ("Preempted", "Deleted", 0)
    assert second["outcome"] == "Succeeded"
    assert second["firstStep"] >= SAVE_STEPS
    assert (second["lastStep"], disturbed["restarts"]) == (STEPS, 0)


def test_the_result_is_that_of_the_undisturbed_job(disturbed: Object, succeeded: Object, volume: Volume) -> None:
    assert disturbed["progress"]["loss"] == pytest.approx(succeeded["progress"]["loss"], rel=1e-5)
    assert _losses(volume, "disturbed") == pytest.approx(_losses(volume, "cpt"), rel=1e-4)


def test_events_report_the_loss_and_of_the_resumption(disturbed: Object, namespace: Namespace) -> None:
    reported = [event for event in namespace.events("disturbed") if event[1] not in ("Pending", "Planned")]
    assert reported == [
        ("Normal", "Started"),
        ("Warning", "Restarting"),
        ("Normal", "Started"),
        ("Normal", "Resumed"),
        ("Normal", "Succeeded"),
    ]


def _losses(volume: Volume, name: str) -> dict[int, float]:
    """The loss of every step, once each."""
    records = [each for each in volume.records(f"output/{name}/metrics.jsonl") if "loss" in each]
    steps = [record["step"] for record in records]
    assert steps == list(range(1, STEPS + 1))
    return {record["step"]: record["loss"] for record in records}
