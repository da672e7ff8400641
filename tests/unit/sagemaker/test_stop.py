"""`zerotune stop` of a job on SageMaker: its training job is stopped, whatever becomes of it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.unit.sagemaker.account import SHAPE
from tests.unit.sagemaker.in_process import FAULTS, LIFE, Aws, Fault, Killed, answer, serve_commands
from tests.unit.sagemaker.jobs import SETTINGS, sagemaker_job, training_job
from zerotune_operator.api.status import Attempt, JobStatus, Phase
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.sagemaker import follower, standalone
from zerotune_operator.backends.sagemaker.backend import SageMakerBackend
from zerotune_operator.backends.sagemaker.errors import QuotaExceededError
from zerotune_operator.backends.sagemaker.layout import job_name
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_operator.cli import stop
from zerotune_operator.cli.run_sagemaker import run_on_sagemaker
from zerotune_trainer.errors import ConfigurationError, TemporaryError

JOB = sagemaker_job()
NAME = job_name(JOB, 0)
CREATED, RUNNING = 17, 29
"""Calls that `zerotune run` has made when the training job is there, and when its status says so."""


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An account whose training jobs run until they are stopped."""
    made = Aws(tmp_path, (*LIFE[:2], *["Training"] * 99))
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "home"))
    serve_commands(made, monkeypatch)
    monkeypatch.setattr(follower, "_FIRST_PAUSE_SECONDS", 0.0)
    yield made
    made.close()


def start(aws: Aws, calls: int) -> JobFolder:
    """Run the job; its process ends with a call."""
    aws.faults[calls] = FAULTS["killed before"]
    home = Home.of_environment()
    folder = home.create(JOB.kind, JOB.metadata.name)
    with pytest.raises(Killed):
        run_on_sagemaker(JOB, folder, home)
    assert aws.service.created == [NAME]
    return folder


def status_of(folder: JobFolder) -> JobStatus:
    return asyncio.run(standalone.refresh(folder, Home.of_environment()))


def test_a_stop_stops_the_training_job_and_the_status_says_so(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    """D32."""
    folder = start(aws, RUNNING)
    assert folder.read_status().phase == "Running"

    stop.command("tune")
    assert "tune: SageMaker stops it within two minutes; `zerotune status tune` shows" in capsys.readouterr().out
    status_of(folder)
    status = status_of(folder)
    assert (status.phase, status.attempts[0].outcome, aws.jobs[0].status) == ("Suspended", "Stopped", "Stopped")


def said_of_its_stop(folder: JobFolder) -> str:
    """What the condition says once it has stopped."""
    while status_of(folder).phase != "Suspended":
        pass
    return next(each.message for each in folder.read_status().conditions if each.type == "Suspended")


def test_a_stop_by_zerotune_is_not_said_to_be_another_s(aws: Aws) -> None:
    folder = start(aws, RUNNING)
    stop.command("tune")
    made = len(aws.made)
    assert said_of_its_stop(folder) == "before its ranks ran"
    assert aws.made[made:].count("GetObject") == 1 + 2 + 1, "of the first host, of both, and who has stopped it"


def test_a_stop_at_aws_is_said_to_be_one(aws: Aws) -> None:
    folder = start(aws, RUNNING)
    aws.jobs[0].stop()
    assert "; it was stopped at AWS, not by zerotune" in said_of_its_stop(folder)


def test_a_stopped_job_that_another_machine_has_resumed_is_seen_to_run(aws: Aws) -> None:
    folder = start(aws, RUNNING)
    stop.command("tune")
    aws.jobs[0]._end("Stopped")
    assert status_of(folder).phase == "Suspended"
    aws.service.call("SageMaker.CreateTrainingJob", training_job(JOB, 1).request)
    found = status_of(folder)
    assert ([attempt.number for attempt in found.attempts], found.attempts[-1].outcome) == ([0, 1], "Running")
    assert found.phase in ("Planned", "Running")
    assert len(aws.service.created) == 2


def test_a_failed_job_that_another_machine_has_begun_again_is_seen_to_run(aws: Aws) -> None:
    folder = start(aws, RUNNING)
    aws.jobs[0].reason = "ClientError: Data download failed"
    aws.jobs[0]._end("Failed")
    assert status_of(folder).phase == "Failed"
    assert status_of(folder).phase == "Failed"
    aws.service.call("SageMaker.CreateTrainingJob", training_job(JOB, 1).request)
    found = status_of(folder)
    assert [(attempt.number, attempt.outcome) for attempt in found.attempts] == [(0, "Failed"), (1, "Running")]
    assert found.phase in ("Planned", "Running") and found.completion_time is None


def test_a_stop_that_cannot_be_noted_is_made_nevertheless(aws: Aws, caplog: pytest.LogCaptureFixture) -> None:
    start(aws, RUNNING)
    aws.faults[len(aws.made) + 2] = FAULTS["throttled"]  # It is described, stopped, and that is noted.
    stop.command("tune")
    assert aws.jobs[0].status == "Stopping"
    assert f"{NAME} is stopped, and will count as stopped by somebody else: " in caplog.text


def test_a_second_stop_is_harmless(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    folder = start(aws, RUNNING)
    stop.command("tune")
    stop.command("tune")
    assert "tune: SageMaker is stopping it already" in capsys.readouterr().out
    stop.command("tune")
    assert "tune: no training job of it runs at SageMaker" in capsys.readouterr().out
    assert status_of(folder).phase == "Suspended"
    stop.command("tune")
    assert aws.made.count("StopTrainingJob") == 1


def test_a_stop_finds_a_training_job_that_the_status_does_not_record(aws: Aws) -> None:
    folder = start(aws, CREATED)
    assert not folder.read_status().attempts
    stop.command("tune")
    assert aws.jobs[0].status == "Stopping"


@pytest.mark.parametrize("recorded", [False, True])
def test_a_stop_waits_for_a_training_job_that_sagemaker_does_not_show_yet(
    aws: Aws, capsys: pytest.CaptureFixture[str], recorded: bool
) -> None:
    """One that the status does not record is known by the claim of its output."""
    aws.hidden = 9
    folder = start(aws, CREATED)
    if recorded:
        folder.write_status(JobStatus(phase="Planned", attempts=[Attempt(number=0)]))
    stop.command("tune")
    said = capsys.readouterr().out
    assert said.count(f"tune: SageMaker does not show training job {NAME} yet; this command waits for it") == 1
    assert "tune: SageMaker stops it within two minutes" in said
    assert aws.jobs[0].status == "Stopping"
    assert f"results/r/.sagemaker/{NAME}/stop" in aws.objects


def test_a_stop_waits_no_longer_than_a_training_job_may_be_unknown(
    aws: Aws, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start(aws, CREATED)
    del aws.service.jobs[NAME]
    monkeypatch.setattr(standalone, "TrainingJobs", partial(TrainingJobs, visible_within=0.2))
    stop.command("tune")
    assert "tune: no training job of it runs at SageMaker" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
def test_a_resource_is_not_let_go_while_its_training_job_may_yet_appear(aws: Aws, kind: str) -> None:
    """It would run on, and nobody would know of it."""
    job, aws.hidden = sagemaker_job(kind), 9
    jobs = TrainingJobs(aws.client(), max_age=0.0)
    backend = SageMakerBackend(job, jobs, SETTINGS, find_inputs)
    asyncio.run(backend.apply(training_job(job)))
    after_restart = SageMakerBackend(job, TrainingJobs(aws.client(), max_age=0.0), SETTINGS, find_inputs)
    for each in (backend, after_restart):
        with pytest.raises(TemporaryError, match=f"{job_name(job, 0)} is to be stopped, and SageMaker, which takes"):
            asyncio.run(each.finalize(JobStatus()))
    aws.jobs[0].hidden = 0  # type: ignore[attr-defined]
    asyncio.run(after_restart.finalize(JobStatus()))
    assert aws.jobs[0].status == "Stopping"


def test_a_resource_whose_training_job_aws_has_rejected_is_let_go_at_once(aws: Aws) -> None:
    backend = SageMakerBackend(JOB, TrainingJobs(aws.client(), max_age=0.0), SETTINGS, find_inputs)
    aws.faults[len(aws.made) + 8] = Fault(lambda: answer("ResourceLimitExceeded", "no quota", 400))
    with pytest.raises(QuotaExceededError):
        asyncio.run(backend.apply(training_job(JOB)))
    asyncio.run(backend.finalize(JobStatus()))
    assert aws.service.created == []


async def find_inputs(_: JobStatus) -> Inputs:
    return Inputs("s3://models/m", SHAPE, {})


def test_a_stop_of_a_job_that_has_failed_here_stops_what_runs_nevertheless(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another machine has begun it again, or its creation was accepted, and the answer lost."""
    folder = start(aws, CREATED)
    folder.write_status(JobStatus(phase="Failed"))
    stop.command("tune")
    assert "tune: SageMaker stops it within two minutes" in capsys.readouterr().out
    assert aws.jobs[0].status == "Stopping"
    aws.jobs[0]._end("Stopped")
    stop.command("tune")
    assert capsys.readouterr().out == "tune: has ended already, its phase is Failed\n"


def test_a_stop_of_a_training_job_that_is_gone_says_that_nothing_runs(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = start(aws, RUNNING)
    del aws.service.jobs[NAME]
    with folder.locked():
        stop.command("tune")
    said = capsys.readouterr().out
    assert "tune: no training job of it runs at SageMaker" in said
    assert "a `zerotune run` follows it, and starts the next attempt: press Ctrl-C there" in said
    assert "does not show training job" not in said, "it did show this one, which was deleted since"
    assert "StopTrainingJob" not in aws.made


def test_a_training_job_that_ends_while_it_is_stopped_is_no_error(aws: Aws) -> None:
    start(aws, RUNNING)
    found = asyncio.run(aws.client().describe(NAME))
    assert found is not None and found["TrainingJobStatus"] == "InProgress"
    aws.jobs[0].status = "Completed"
    asyncio.run(aws.client().stop(NAME))
    assert aws.made[-1] == "StopTrainingJob"


def test_a_job_of_this_machine_is_not_stopped_so(aws: Aws) -> None:
    folder = start(aws, RUNNING)
    backend = JOB.spec.backend.model_copy(update={"sagemaker": None})
    folder.write_job(JOB.model_copy(update={"spec": JOB.spec.model_copy(update={"backend": backend})}))
    with folder.locked(), pytest.raises(ConfigurationError, match="runs on this machine"):
        stop.command("tune")


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        ("Suspended", "tune: is suspended already, and nothing of it runs; `zerotune run` with its file goes on"),
        ("Succeeded", "tune: has ended already, its phase is Succeeded"),
        ("Running", "tune: has ended already, its phase is Failed"),
        (None, "tune: nothing of it runs, its phase is Pending; `zerotune run` with its file starts it"),
    ],
)
def test_a_job_of_this_machine_that_does_not_run_is_said_to(
    aws: Aws, capsys: pytest.CaptureFixture[str], phase: Phase | None, said: str
) -> None:
    folder = start(aws, RUNNING)
    backend = JOB.spec.backend.model_copy(update={"sagemaker": None})
    folder.write_job(JOB.model_copy(update={"spec": JOB.spec.model_copy(update={"backend": backend})}))
    folder.write_status(JobStatus(phase=phase))
    stop.command("tune")
    assert said in capsys.readouterr().out
