"""A training job that runs is not left behind by another run under the job's name, here or at SageMaker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sagemaker.in_process import FAULTS, LIFE, Aws, Killed, serve_commands
from tests.unit.sagemaker.jobs import ROLE, sagemaker_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import parse_job
from zerotune_operator.backends.local.home import Home
from zerotune_operator.cli.run import run_job
from zerotune_trainer.errors import ConfigurationError

CREATED, RUNNING = 19, 27
"""Calls that `zerotune run` has made when the training job is there, and when its status records it."""
KINDS = ("FineTuneJob", "InferenceJob")


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    made = Aws(tmp_path, (*LIFE[:2], *["Training"] * 99))
    serve_commands(made, monkeypatch)
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "home"))
    yield made
    made.close()


def start(aws: Aws, kind: str, calls: int) -> None:
    """Run a job; its process ends with a call."""
    aws.faults[calls] = FAULTS["killed before"]
    with pytest.raises(Killed):
        run_job(sagemaker_job(kind, roleArn=ROLE), Home.of_environment(), fresh=False)
    assert len(aws.service.created) == 1
    (folder,) = Home.of_environment().jobs()
    assert len(folder.read_status().attempts) == (1 if calls == RUNNING else 0)


def changed(kind: str, output: str, backend: dict[str, Any]) -> Job:
    given = sagemaker_job(kind, roleArn=ROLE).model_dump(mode="json", by_alias=True, exclude_unset=True)
    given["spec"] |= {"output": {"uri": output}, "backend": backend or given["spec"]["backend"]}
    return parse_job(given)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("calls", [CREATED, RUNNING])
@pytest.mark.parametrize("backend", [{}, {"local": {}}], ids=["there", "here"])
def test_a_fresh_run_does_not_leave_a_training_job_behind(
    aws: Aws, kind: str, calls: int, backend: dict[str, Any]
) -> None:
    """With another output, which no claim keeps apart, and also where no status records it."""
    start(aws, kind, calls)
    with pytest.raises(ConfigurationError, match="tune has a training job on SageMaker that has not ended") as caught:
        run_job(changed(kind, "s3://results/other", backend), Home.of_environment(), fresh=True)
    assert "stop it first: `zerotune stop tune`" in caught.value.hint
    assert len(aws.service.created) == 1
    assert not (Home.of_environment().path / "replaced").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("calls", [CREATED, RUNNING])
def test_a_job_does_not_go_on_here_while_its_training_job_runs(aws: Aws, kind: str, calls: int) -> None:
    start(aws, kind, calls)
    with pytest.raises(ConfigurationError, match="tune has a training job on SageMaker that has not ended"):
        run_job(changed(kind, "s3://results/r", {"local": {}}), Home.of_environment(), fresh=False)
