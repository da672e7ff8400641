"""A training job under an attempt's name that somebody else made, copied from one of the job's own, is not followed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sagemaker.in_process import FAULTS, LIFE, Aws, Killed, serve_commands
from tests.unit.sagemaker.jobs import ROLE, sagemaker_job, training_job
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.sagemaker.layout import job_name, uid_of
from zerotune_operator.cli import status, stop
from zerotune_operator.cli.run import run_job
from zerotune_trainer.errors import ConfigurationError

FOUND = sagemaker_job(roleArn=ROLE)
JOB = FOUND.model_copy(update={"metadata": FOUND.metadata.model_copy(update={"uid": uid_of(FOUND)})})
CALLS_UNTIL_IT_RUNS = 26
Request = dict[str, Any]


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An account whose training jobs run on."""
    made = Aws(tmp_path, (*LIFE[:2], *["Training"] * 99))
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "home"))
    serve_commands(made, monkeypatch)
    yield made
    made.close()


def _first_attempt(request: Request) -> None:
    request.update(training_job(JOB, 0).request | {"TrainingJobName": request["TrainingJobName"]})


def _other_output(request: Request) -> None:
    request["OutputDataConfig"]["S3OutputPath"] = "s3://results/elsewhere"


def _other_files(request: Request) -> None:
    request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] = "s3://results/elsewhere/"


def _other_job(request: Request) -> None:
    request["Environment"] = {}


COPIES: list[Callable[[Request], None]] = [_first_attempt, _other_output, _other_files, _other_job]


def suspend(aws: Aws) -> None:
    """Run the job, and stop it."""
    aws.faults[len(aws.made) + CALLS_UNTIL_IT_RUNS] = FAULTS["killed before"]
    with pytest.raises(Killed):
        run_job(JOB, Home.of_environment(), fresh=False)
    stop.command("tune")
    for _ in range(3):
        status.command("tune")


@pytest.mark.parametrize("change", COPIES)
def test_a_copy_under_the_next_name_is_rejected_and_the_status_says_so(
    aws: Aws, capsys: pytest.CaptureFixture[str], change: Callable[[Request], None]
) -> None:
    suspend(aws)
    request = copy.deepcopy(training_job(JOB, 1).request)
    change(request)
    aws.service.call("SageMaker.CreateTrainingJob", request)
    capsys.readouterr()

    name = job_name(JOB, 1)
    with pytest.raises(ConfigurationError, match=f"a training job {name} that this job has not created"):
        run_job(JOB, Home.of_environment(), fresh=False)
    status.command("tune")
    said = capsys.readouterr().out
    assert "Phase:          Suspended" in said
    assert f"Root cause:     Configuration: SageMaker has a training job {name} that this job has not" in said
    stop.command("tune")
    assert "no training job of it runs" in capsys.readouterr().out
    assert aws.service.jobs[name].status == "InProgress", "what is not ours is not stopped"


def test_the_cause_of_a_rejection_goes_once_the_job_goes_on(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    suspend(aws)
    aws.service.call(
        "SageMaker.CreateTrainingJob", training_job(JOB, 0).request | {"TrainingJobName": job_name(JOB, 1)}
    )
    with pytest.raises(ConfigurationError):
        run_job(JOB, Home.of_environment(), fresh=False)
    del aws.service.jobs[job_name(JOB, 1)]
    aws.faults[len(aws.made) + CALLS_UNTIL_IT_RUNS] = FAULTS["killed before"]
    with pytest.raises(Killed):
        run_job(JOB, Home.of_environment(), fresh=False)
    capsys.readouterr()
    status.command("tune")
    assert "Root cause" not in capsys.readouterr().out
