"""Several machines know one job on SageMaker: what one does is seen by the others, whatever they knew before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sagemaker.account import result_of
from tests.unit.sagemaker.in_process import FAULTS, LIFE, Aws, Fault, Killed, answer, serve_commands
from tests.unit.sagemaker.jobs import sagemaker_job, training_job
from tests.unit.sagemaker.test_found_again import KINDS, file_of, job
from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.sagemaker import follower, standalone
from zerotune_operator.backends.sagemaker.layout import attempt_uri, job_name
from zerotune_operator.cli import status, stop
from zerotune_operator.cli.run import run_job
from zerotune_trainer.errors import ConfigurationError, InputMissingError, StoppedError

CALLS_UNTIL_IT_RUNS = 40


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An account whose training jobs run until they are stopped, asked from the home `one`."""
    made = Aws(tmp_path, (*LIFE[:2], *["Training"] * 99))
    serve_commands(made, monkeypatch)
    monkeypatch.setattr(follower, "_FIRST_PAUSE_SECONDS", 0.0)
    use(monkeypatch, tmp_path / "one")
    yield made
    made.close()


def use(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("ZEROTUNE_HOME", str(home))


def run_for_a_while(aws: Aws, started: Job, home: Path, fresh: bool = False) -> JobFolder:
    """Run a job; its process ends while the training job runs."""
    aws.faults[len(aws.made) + CALLS_UNTIL_IT_RUNS] = FAULTS["killed before"]
    with pytest.raises(Killed):
        run_job(started, Home(home), fresh)
    (folder,) = Home(home).jobs()
    assert folder.read_status().phase == "Running"
    return folder


def end(aws: Aws, number: int, state: str) -> None:
    """Have a training job end by itself."""
    if state == "Stopped" and aws.jobs[number].status == "InProgress":
        aws.jobs[number].stop()
    aws.jobs[number].reason = "InternalServerError: of AWS" if state == "Failed" else None
    aws.jobs[number]._end(state)


def changed(given: Job, **spec: Any) -> Job:
    data = given.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return type(given).model_validate(data | {"spec": data["spec"] | spec})


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_follows_the_attempt_that_another_machine_has_started_after_a_stop(
    aws: Aws, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    run_for_a_while(aws, job(kind), tmp_path / "one")
    stop.command("tune")
    end(aws, 0, "Stopped")
    aws.service.call("SageMaker.CreateTrainingJob", training_job(job(kind), 1).request)
    aws.faults[len(aws.made) + CALLS_UNTIL_IT_RUNS] = FAULTS["killed before"]
    capsys.readouterr()

    with pytest.raises(Killed):
        run_job(job(kind), Home(tmp_path / "one"), fresh=False)
    said = capsys.readouterr().out
    assert "tune: attempt 0: Suspended; another machine has run the job again since\n" in said
    assert f"follows training job {job_name(job(kind), 1)} in us-east-1" in said
    assert len(aws.service.created) == 2


def test_a_run_does_not_follow_an_attempt_of_another_spec(aws: Aws, tmp_path: Path) -> None:
    run_for_a_while(aws, job(), tmp_path / "one")
    end(aws, 0, "Stopped")
    other = changed(job(), topology={"nodes": 2, "gpusPerNode": 0, "processesPerNode": 2})
    aws.service.call("SageMaker.CreateTrainingJob", training_job(other, 1).request)
    with pytest.raises(ConfigurationError, match=f"{job_name(job(), 1)} of this job already, and it was started with"):
        run_job(job(), Home(tmp_path / "one"), fresh=False)
    assert len(aws.service.created) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_status_of_a_file_follows_the_job_that_another_machine_has_begun_anew(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    run_for_a_while(aws, job(kind), tmp_path / "one")
    end(aws, 0, "Stopped")
    run_for_a_while(aws, job(kind), tmp_path / "two", fresh=True)
    first, later = aws.service.created
    capsys.readouterr()

    stop.command("tune")
    said = capsys.readouterr().out
    assert f"tune: the training job {later} of another {kind} of this name, tune (uid" in said
    assert "`zerotune status --file FILE`, with its file, makes it known here, then `zerotune stop tune` stops" in said
    assert aws.jobs[1].status == "InProgress"
    with pytest.raises(ConfigurationError, match=f"is written to by the training job {later} of another") as caught:
        run_job(job(kind), Home(tmp_path / "one"), fresh=False)
    assert caught.value.hint.startswith("`zerotune status --file FILE`, with its file, makes it known here")

    status.command(file=file_of(tmp_path, job(kind)))
    said, noted = capsys.readouterr()
    assert f"Training job:   {later} in us-east-1" in said and first not in said
    assert "tune: another machine has begun it anew; what was known here is now in " in noted
    stop.command("tune")
    assert aws.jobs[1].status == "Stopping"


def test_status_of_a_file_of_another_job_says_what_a_home_without_jobs_says(aws: Aws, tmp_path: Path) -> None:
    run_for_a_while(aws, job(), tmp_path / "one")
    elsewhere = changed(job(), output={"uri": "s3://results/other"})
    with pytest.raises(InputMissingError, match=r"no FineTuneJob tune that writes to s3://results/other"):
        status.command(file=file_of(tmp_path, elsewhere))
    other = changed(job(), topology={"nodes": 2, "gpusPerNode": 0, "processesPerNode": 2})
    with pytest.raises(ConfigurationError, match=r"was started with another spec: topology.processesPerNode was None"):
        status.command(file=file_of(tmp_path, other))
    run_for_a_while(aws, elsewhere.model_copy(update={"metadata": sagemaker_job().metadata}), tmp_path / "two")
    with pytest.raises(ConfigurationError, match=r"has another FineTuneJob tune, with output.uri s3://results/r"):
        status.command(file=file_of(tmp_path, elsewhere))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("home", ["one", "two"])
def test_a_run_of_a_job_that_is_to_be_suspended_stops_its_training_job(
    aws: Aws, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str, home: str
) -> None:
    run_for_a_while(aws, job(kind), tmp_path / "one")
    suspended = changed(job(kind), runPolicy={"suspend": True})
    assert run_job(suspended, Home(tmp_path / home), fresh=False) == StoppedError.exit_code
    assert "tune: SageMaker stops it within two minutes; `zerotune status tune` shows" in capsys.readouterr().out
    assert aws.jobs[0].status == "Stopping"
    end(aws, 0, "Stopped")
    with pytest.raises(ConfigurationError, match=r"tune: runPolicy.suspend is true"):
        run_job(suspended, Home(tmp_path / home), fresh=False)
    assert len(aws.service.created) == 1


def test_a_status_shows_all_attempts_that_were_made_elsewhere_at_once(
    aws: Aws, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_for_a_while(aws, job(), tmp_path / "one")
    for number in (1, 2):
        end(aws, number - 1, "Failed")
        aws.service.call("SageMaker.CreateTrainingJob", training_job(job(), number).request)
    status.command("tune")
    assert [each.outcome for each in folder.read_status().attempts] == ["Failed", "Failed", "Running"]
    stop.command("tune")
    assert aws.jobs[2].status == "Stopping"


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_between_two_attempts_ends_the_run_of_another_machine(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    run_for_a_while(aws, job(kind), tmp_path / "one")
    end(aws, 0, "Failed")
    status.command("tune")
    said = capsys.readouterr().out
    assert "Phase:          Restarting; no process of this machine follows it: run it again to start the next" in said

    use(monkeypatch, tmp_path / "two")
    status.command(file=file_of(tmp_path, job(kind)))
    stop.command("tune")
    said = capsys.readouterr().out
    assert "a `zerotune run` that waits to start the next attempt, on whatever machine, ends instead" in said
    status.command("tune")
    assert "Phase:          Suspended\n" in capsys.readouterr().out

    backend = standalone.standalone_backend(job(kind), Home(tmp_path / "one"))
    (folder,) = Home(tmp_path / "one").jobs()
    view = Shown()
    waiting = follower.Follower(job(kind), folder, backend, view)  # type: ignore[arg-type]
    assert asyncio.run(waiting.follow(folder.read_status())).phase == "Suspended"
    assert len(aws.service.created) == 1

    run_for_a_while(aws, job(kind), tmp_path / "one")
    assert len(aws.service.created) == 2, "it goes on when it is run again"
    assert aws.objects[f"{attempt_uri(job(kind), 1)}/stop".removeprefix("s3://")] == b""


class Shown:
    """A view that shows nothing."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


def test_a_stop_does_not_wait_for_a_training_job_that_aws_has_rejected(
    aws: Aws, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    creation = "CreateTrainingJob"
    with pytest.MonkeyPatch.context() as patched:
        call = aws.call
        denied = Fault(lambda: answer("AccessDeniedException", "not authorized", 400))

        def reject(operation: str, effect: Any) -> Any:
            if operation == creation:
                raise denied.error()
            return call(operation, effect)

        patched.setattr(aws, "call", reject)
        with pytest.raises(ConfigurationError, match="not authorized"):
            run_job(job(), Home(tmp_path / "one"), fresh=False)
    capsys.readouterr()
    stop.command("tune")
    assert "does not show training job" not in capsys.readouterr().out


def test_a_run_of_a_finished_job_names_its_training_job(
    aws: Aws, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.states = LIFE
    aws.objects |= result_of(job())
    assert run_job(job(), Home(tmp_path / "one"), fresh=False) == 0
    capsys.readouterr()
    assert run_job(job(), Home(tmp_path / "two"), fresh=False) == 0
    assert f"tune: training job {job_name(job(), 0)} in us-east-1 has ended\n" in capsys.readouterr().out


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "other prefix"])
def test_a_training_job_that_has_ended_since_this_home_looked_keeps_no_run_back(
    aws: Aws, tmp_path: Path, fresh: bool
) -> None:
    run_for_a_while(aws, job(), tmp_path / "one")
    end(aws, 0, "Stopped")
    backend = {"sagemaker": job().spec.backend.model_dump(mode="json", by_alias=True, exclude_unset=True)["sagemaker"]}
    other = changed(job(), backend={"sagemaker": backend["sagemaker"] | {"jobNamePrefix": "abc"}})
    wanted = changed(job(), output={"uri": "s3://results/other"}) if fresh else other
    aws.faults[len(aws.made) + CALLS_UNTIL_IT_RUNS] = FAULTS["killed before"]
    with pytest.raises(Killed):
        run_job(wanted, Home(tmp_path / "one"), fresh)
    assert len(aws.service.created) == 2
