"""What a run says of a training job that was stopped: whether anything was saved, and who stopped it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.sagemaker.clocked import INTERVAL_SECONDS, Operator
from tests.unit.sagemaker.in_process import LIFE, Aws, serve_commands
from tests.unit.sagemaker.jobs import ROLE, sagemaker_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.sagemaker import follower
from zerotune_operator.backends.sagemaker.layout import attempt_uri, uid_of
from zerotune_operator.cli.run import run_job
from zerotune_operator.cli.status import command as show_status
from zerotune_operator.lifecycle.job_events import EventText, changes
from zerotune_trainer.errors import StoppedError
from zerotune_trainer.failures import describe
from zerotune_trainer.progress import NodeProgress, NodeReport, Progress


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An account whose training jobs are stopped by somebody while they train."""
    made = Aws(tmp_path, (*LIFE[:2], "Training", "Training", "Stopping"))
    serve_commands(made, monkeypatch)
    monkeypatch.setattr(follower, "_FIRST_PAUSE_SECONDS", 0.0)
    yield made
    made.close()


def job(kind: str = "FineTuneJob", **checkpoint: str) -> Job:
    found = sagemaker_job(kind, roleArn=ROLE)
    if checkpoint:
        kept = type(found.spec.checkpoint).model_validate(checkpoint)
        found = found.model_copy(update={"spec": found.spec.model_copy(update={"checkpoint": kept})})
    return found.model_copy(update={"metadata": found.metadata.model_copy(update={"uid": uid_of(found)})})


def report(aws: Aws, reporting: Job, step: int | None, error: StoppedError | None) -> None:
    """What the first host of the first attempt has written."""
    progress = NodeProgress(
        job="j", attempt=0, host="algo-1", ranks=[], progress=Progress(step=step, total=9) if step else None
    )
    message = describe(error).termination_message() if error else ""
    written = NodeReport(host="algo-1", progress=progress, exit_code=143 if error else None, message=message)
    uri = f"{attempt_uri(reporting, 0)}/status/algo-1.json"
    aws.objects[uri.removeprefix("s3://")] = written.model_dump_json(by_alias=True).encode()


BEFORE = StoppedError("stopped on request before the first step: nothing to save")
AFTER = StoppedError("stopped on request after step 3, with checkpoint-3")


ANEW = "run it again to begin anew"
GO_ON = "run it again to go on from what it has saved"
NOT_OURS = "it was stopped at AWS, not by zerotune"


@pytest.mark.parametrize(
    ("stopped", "step", "error", "reason", "next_run"),
    [
        (job(), None, None, "before its ranks ran", f"it has made no step: {ANEW}"),
        (job("InferenceJob"), None, None, "before its ranks ran", f"it has done no record: {ANEW}"),
        (job(), None, BEFORE, BEFORE.message, f"it has made no step: {ANEW}"),
        (job(), 3, AFTER, AFTER.message, GO_ON),
        (job("InferenceJob"), 3, None, "no host has said what it saved", GO_ON),
        (job(saveStrategy="no"), 3, AFTER, AFTER.message, f"{ANEW}: its checkpoint.saveStrategy is no"),
        (job(resume="never"), 3, AFTER, AFTER.message, f"{ANEW}: its checkpoint.resume is never"),
    ],
)
def test_a_stopped_run_says_what_the_next_one_begins_with(
    aws: Aws,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stopped: Job,
    step: int | None,
    error: StoppedError | None,
    reason: str,
    next_run: str,
) -> None:
    if step or error:
        report(aws, stopped, step, error)
    assert run_job(stopped, Home(tmp_path / "home"), fresh=False) == StoppedError.exit_code
    assert capsys.readouterr().out.splitlines()[-1] == f"tune: stopped: {reason}; {NOT_OURS}; {next_run}"
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "home"))
    show_status("tune")
    assert f"Suspended:      {reason}; {NOT_OURS}\n" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
def test_a_cluster_says_who_stopped_it_and_starts_it_again(aws: Aws, kind: str) -> None:
    operator, status = Operator(aws, [sagemaker_job(kind)]), JobStatus()
    events: list[EventText] = []
    while len(aws.service.created) < 2:
        asyncio.run(operator.run(INTERVAL_SECONDS))
        events += changes(status, operator.statuses[0])
        status = operator.statuses[0]
    (said,) = [event.message for event in events if event.reason == "Suspended"]
    assert said.endswith(f"{NOT_OURS}, which starts it again: to stop a job set runPolicy.suspend")


def test_a_suspended_job_was_not_stopped_by_others(aws: Aws) -> None:
    aws.states = (*LIFE[:2], *["Training"] * 99)
    running = sagemaker_job()
    policy = running.spec.run_policy.model_copy(update={"suspend": True})
    suspended = running.model_copy(update={"spec": running.spec.model_copy(update={"run_policy": policy})})
    operator = Operator(aws, [running])
    asyncio.run(operator.run(300))
    asked = Operator(aws, [suspended])
    asked.statuses, asked.seconds = operator.statuses, operator.seconds
    aws.made.clear()
    asyncio.run(asked.run(300))

    assert asked.statuses[0].phase == "Suspended"
    assert NOT_OURS not in asked.statuses[0].model_dump_json()
    assert aws.made.count("StopTrainingJob") == 1
    assert aws.made.count("PutObject") == 1, "that zerotune has asked for it"
