"""A job that was started on one machine is found from another one, by its file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.sagemaker.account import result_of
from tests.unit.sagemaker.in_process import FAULTS, LIFE, Aws, Killed, serve_commands
from tests.unit.sagemaker.jobs import ROLE, sagemaker_job, training_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import duration
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.sagemaker import follower
from zerotune_operator.backends.sagemaker.layout import job_name, uid_of
from zerotune_operator.cli import status, stop
from zerotune_operator.cli.run import run_job
from zerotune_operator.lifecycle.transitions import planned
from zerotune_trainer.errors import ConfigurationError, InputMissingError

KINDS = ("FineTuneJob", "InferenceJob")
CALLS_UNTIL_IT_RUNS = 22
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def job(kind: str = "FineTuneJob", **sagemaker: Any) -> Job:
    """A job as every machine knows it."""
    found = sagemaker_job(kind, roleArn=ROLE, **sagemaker)
    metadata = found.metadata.model_copy(update={"uid": uid_of(found)})
    return found.model_copy(update={"metadata": metadata})


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    made = Aws(tmp_path, (*LIFE[:2], *["Training"] * 20, *LIFE[-2:]))
    serve_commands(made, monkeypatch)
    monkeypatch.setattr(follower, "_FIRST_PAUSE_SECONDS", 0.0)
    yield made
    made.close()


def start(aws: Aws, home: Path, started: Job, fresh: bool = False) -> None:
    """Run a job on a machine that goes away with it running."""
    aws.faults[len(aws.made) + CALLS_UNTIL_IT_RUNS] = FAULTS["killed before"]
    with pytest.raises(Killed):
        run_job(started, Home(home), fresh)
    assert len(aws.service.created) == 1
    assert fresh or aws.service.created == [job_name(started, 0)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_from_another_machine_follows_the_job_to_its_end(aws: Aws, tmp_path: Path, kind: str) -> None:
    """D32: what started it may go away."""
    aws.objects |= result_of(job(kind))
    start(aws, tmp_path / "one", job(kind))

    assert run_job(job(kind), Home(tmp_path / "two"), fresh=False) == 0
    assert run_job(job(kind), Home(tmp_path / "three"), fresh=False) == 0, "which has ended by now"
    assert aws.service.created == [job_name(job(kind), 0)]
    for home in ("two", "three"):
        (folder,) = Home(tmp_path / home).jobs()
        assert folder.read_status().phase == "Succeeded"


def test_status_and_stop_know_the_job_on_a_machine_that_has_followed_it(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start(aws, tmp_path / "one", job())
    aws.faults[len(aws.made) + CALLS_UNTIL_IT_RUNS] = FAULTS["killed before"]
    with pytest.raises(Killed):
        run_job(job(), Home(tmp_path / "two"), fresh=False)

    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "two"))
    status.command("tune")
    assert "Running" in capsys.readouterr().out
    stop.command("tune")
    assert "tune: SageMaker stops it within two minutes" in capsys.readouterr().out
    assert aws.jobs[0].status == "Stopping"


def file_of(folder: Path, written: Job) -> Path:
    """The job as its file has it."""
    path = folder / "job.yaml"
    given = written.model_dump(mode="json", by_alias=True, exclude_unset=True)
    path.write_text(yaml.safe_dump(given | {"metadata": {"name": written.metadata.name}}))
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fresh", [False, True])
def test_a_job_that_another_machine_runs_is_found_by_its_file(
    aws: Aws,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    fresh: bool,
) -> None:
    start(aws, tmp_path / "one", job(kind), fresh)
    (name,) = aws.service.created
    assert (name == job_name(job(kind), 0)) != fresh
    made = len(aws.service.created)
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "two"))
    capsys.readouterr()

    status.command(file=file_of(tmp_path, job(kind)))
    said = capsys.readouterr().out
    assert f"Training job:   {name} in us-east-1" in said
    assert "Phase:          Running" in said
    status.command("tune")
    assert f"Training job:   {name} in us-east-1" in capsys.readouterr().out, "it is known here from now on"
    stop.command("tune")
    assert "tune: SageMaker stops it within two minutes" in capsys.readouterr().out
    assert (aws.jobs[0].status, len(aws.service.created)) == ("Stopping", made)


def test_all_attempts_of_a_job_of_another_machine_are_found(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start(aws, tmp_path / "one", job())
    aws.jobs[0].reason = "InternalServerError: of AWS"
    aws.jobs[0]._end("Failed")
    aws.service.call("SageMaker.CreateTrainingJob", training_job(job(), 1).request)
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "two"))

    capsys.readouterr()
    status.command(output="json", file=file_of(tmp_path, job()))
    found = json.loads(capsys.readouterr().out)["status"]
    assert [(each["number"], each["outcome"]) for each in found["attempts"]] == [(0, "Failed"), (1, "Running")]
    assert found["restarts"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_and_a_status_say_why_an_attempt_failed_that_had_ended_before_they_looked(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    start(aws, tmp_path / "one", job(kind))
    aws.jobs[0].reason = "InternalServerError: of AWS"
    aws.jobs[0]._end("Failed")
    aws.service.call("SageMaker.CreateTrainingJob", training_job(job(kind), 1).request)
    capsys.readouterr()

    aws.faults[len(aws.made) + CALLS_UNTIL_IT_RUNS] = FAULTS["killed before"]
    with pytest.raises(Killed):
        run_job(job(kind), Home(tmp_path / "two"), fresh=False)
    said = capsys.readouterr().out
    assert said.count("tune: failed (Temporary): InternalServerError: of AWS; goes on ") == 1
    assert said.index("failed (Temporary)") < said.index(f"follows training job {job_name(job(kind), 1)}")

    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "three"))
    status.command(file=file_of(tmp_path, job(kind)))
    said = capsys.readouterr().err
    assert said == "tune: attempt 0 failed (Temporary): InternalServerError: of AWS\n"


def test_times_of_a_found_job_are_those_of_sagemaker(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Days after its end: started and took are no matter of when this machine looked."""
    hours = iter(range(99))
    aws.clock = lambda: BEGIN.timestamp() + 3600 * next(hours)
    start(aws, tmp_path / "one", job())
    (training_job,) = aws.jobs
    training_job.reason = "ClientError: Data download failed"
    training_job._end("Failed")
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "two"))
    capsys.readouterr()

    status.command(file=file_of(tmp_path, job()))
    said = capsys.readouterr().out
    began = datetime.fromtimestamp(training_job.started, UTC)
    took = duration(timedelta(seconds=training_job.ended - training_job.started))
    assert re.search(rf"Failed +InputMissing +{re.escape(began.isoformat(timespec='seconds'))} +{took}$", said, re.M)
    (folder,) = Home(tmp_path / "two").jobs()
    found = folder.read_status()
    assert found.plan is not None
    assert found.start_time == datetime.fromtimestamp(training_job.created, UTC) == BEGIN
    assert found.completion_time == datetime.fromtimestamp(training_job.ended, UTC)
    folder.write_status(planned(found, found.plan, datetime.now(UTC)))  # It is run again.
    status.command()
    age = re.search(r" (\d+)h\w+$", capsys.readouterr().out, re.M)
    assert age is not None and int(age[1]) == (datetime.now(UTC) - BEGIN) // timedelta(hours=1)
    assert folder.read_job().metadata.model_dump(by_alias=True)["creationTimestamp"] == BEGIN


def test_a_file_of_which_sagemaker_knows_nothing_says_what_was_looked_for(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "two"))
    with pytest.raises(InputMissingError, match=f"no training job {job_name(job(), 0)} in us-east-1") as caught:
        status.command(file=file_of(tmp_path, job()))
    assert "see that the file, the region and the account are those" in caught.value.hint
    assert aws.service.created == []
    with pytest.raises(InputMissingError, match="there is no job 'tune'") as caught:
        status.command("tune")
    assert "is found by its file: `zerotune status --file FILE`" in caught.value.hint


def test_another_spec_under_its_name_is_rejected_and_creates_nothing(aws: Aws, tmp_path: Path) -> None:
    start(aws, tmp_path / "one", job())
    found = job()
    topology = found.spec.topology.model_copy(update={"processes_per_node": 2})
    other = found.model_copy(update={"spec": found.spec.model_copy(update={"topology": topology})})

    with pytest.raises(ConfigurationError, match="of this job already, and it was started with another spec"):
        run_job(other, Home(tmp_path / "two"), fresh=False)
    assert aws.service.created == [job_name(found, 0)]


def test_a_fresh_run_is_another_job_once_the_first_has_ended(aws: Aws, tmp_path: Path) -> None:
    start(aws, tmp_path / "one", job())
    with pytest.raises(ConfigurationError, match=f"that has not ended: {job_name(job(), 0)}"):
        run_job(job(), Home(tmp_path / "two"), fresh=True)
    assert len(aws.service.created) == 1

    while not aws.jobs[0].has_ended:
        aws.jobs[0].description()
    aws.faults[len(aws.made) + CALLS_UNTIL_IT_RUNS + 2] = FAULTS["killed before"]
    with pytest.raises(Killed):
        run_job(job(), Home(tmp_path / "two"), fresh=True)
    assert len(set(aws.service.created)) == 2
