"""What a run says of a training job that was stopped: whether anything was saved, and who stopped it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.sagemaker.in_process import LIFE, Aws, serve_commands
from tests.unit.sagemaker.jobs import ROLE, sagemaker_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.sagemaker import follower
from zerotune_operator.backends.sagemaker.layout import attempt_uri, uid_of
from zerotune_operator.cli.run import run_job
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


@pytest.mark.parametrize(
    ("stopped", "step", "error", "said"),
    [
        (job(), None, None, "before its ranks ran; it has made no step: run it again to begin anew"),
        (job("InferenceJob"), None, None, "before its ranks ran; it has done no record: run it again to begin anew"),
        (job(), None, BEFORE, f"{BEFORE.message}; it has made no step: run it again to begin anew"),
        (job(), 3, AFTER, f"{AFTER.message}; run it again to go on from what it has saved"),
        (job("InferenceJob"), 3, None, "no host has said what it saved; run it again to go on from what it has saved"),
        (job(saveStrategy="no"), 3, AFTER, "run it again to begin anew: its checkpoint.saveStrategy is no"),
        (job(resume="never"), 3, AFTER, "run it again to begin anew: its checkpoint.resume is never"),
    ],
)
def test_a_stopped_run_says_what_the_next_one_begins_with(
    aws: Aws,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stopped: Job,
    step: int | None,
    error: StoppedError | None,
    said: str,
) -> None:
    if step or error:
        report(aws, stopped, step, error)
    assert run_job(stopped, Home(tmp_path / "home"), fresh=False) == StoppedError.exit_code
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("tune: stopped: ") and last.endswith(said)
