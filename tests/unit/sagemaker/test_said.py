"""What is shown of the training job of an attempt: its name and region, and that SageMaker does not know it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from tests.unit.sagemaker.account import UNTIL_STOPPED, Account
from tests.unit.sagemaker.in_process import FAULTS, LIFE, Aws, Fault, Killed, answer, serve_commands
from tests.unit.sagemaker.jobs import ROLE, sagemaker_job
from zerotune_operator.api.status import Attempt, JobStatus, Phase, RootCause
from zerotune_operator.backends.driver import Driver
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.sagemaker import follower
from zerotune_operator.backends.sagemaker.layout import job_name, uid_of
from zerotune_operator.cli import status
from zerotune_operator.cli.run import run_job
from zerotune_operator.cli.run_sagemaker import say_left
from zerotune_operator.lifecycle.job_events import changes
from zerotune_operator.lifecycle.transitions import unobserved

CALLS_UNTIL_IT_RUNS = 27
QUOTA = Fault(lambda: answer("ResourceLimitExceeded", "The account-level service limit is reached", 400))
WRONG_KEYS = Fault(lambda: answer("UnrecognizedClientException", "The security token is invalid", 400))
FOUND = sagemaker_job(roleArn=ROLE)
JOB = FOUND.model_copy(update={"metadata": FOUND.metadata.model_copy(update={"uid": uid_of(FOUND)})})
NAME = job_name(JOB, 0)


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An account whose training jobs run on."""
    made = Aws(tmp_path, (*LIFE[:2], *["Training"] * 99))
    serve_commands(made, monkeypatch)
    monkeypatch.setattr(follower, "_FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "home"))
    yield made
    made.close()


def run(aws: Aws, home: Path) -> None:
    """`zerotune run`, whose process ends a while after the training job runs."""
    aws.faults[len(aws.made) + CALLS_UNTIL_IT_RUNS] = FAULTS["killed before"]
    with pytest.raises(Killed):
        run_job(JOB, Home(home), fresh=False)


def test_a_run_says_which_training_job_it_has_created_or_follows(
    aws: Aws, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(aws, tmp_path / "home")
    assert capsys.readouterr().out.count(f"tune: training job {NAME} in us-east-1 is created\n") == 1
    followed = f"tune: follows training job {NAME} in us-east-1, which was there already\n"
    for home in ("home", "another"):
        run(aws, tmp_path / home)
        said = capsys.readouterr().out
        assert (said.count(followed), "is created" in said) == (1, False)


def test_status_says_what_a_job_waits_for_that_aws_does_not_take(
    aws: Aws, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quota, such as of instances: the process that asks again and again ends meanwhile, and the next one goes on."""
    creation = next(number for number, call in enumerate(calls_of_a_run(tmp_path)) if call == "CreateTrainingJob")
    aws.faults |= {creation: QUOTA, creation + 3: FAULTS["killed before"]}  # That it is rejected is noted.
    with pytest.raises(Killed):
        run_job(JOB, Home(tmp_path / "home"), fresh=False)
    capsys.readouterr()
    status.command("tune")
    assert "The account-level service limit is reached" in capsys.readouterr().out
    run(aws, tmp_path / "home")
    capsys.readouterr()
    status.command("tune")
    assert "service limit" not in capsys.readouterr().out


def calls_of_a_run(tmp_path: Path) -> list[str]:
    """What an undisturbed run asks AWS for, until its training job runs."""
    undisturbed = Aws(tmp_path / "undisturbed", (*LIFE[:2], *["Training"] * 99))
    try:
        with pytest.MonkeyPatch.context() as patched:
            serve_commands(undisturbed, patched)
            run(undisturbed, tmp_path / "undisturbed-home")
    finally:
        undisturbed.close()
    return undisturbed.made


def as_seen(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What `zerotune status` prints of a job that cannot be observed, after which it ends with exit code 75."""
    capsys.readouterr()
    with pytest.raises(typer.Exit) as caught:
        status.command("tune")
    assert caught.value.exit_code == 75
    return capsys.readouterr()


@pytest.mark.parametrize("followed", [True, False])
def test_a_status_that_aws_does_not_confirm_says_of_when_it_is(
    aws: Aws, tmp_path: Path, capsys: pytest.CaptureFixture[str], followed: bool
) -> None:
    """A process that follows the job writes that AWS does not answer; else the one that asks finds out."""
    before = datetime.now(UTC)
    first = len(aws.made) + CALLS_UNTIL_IT_RUNS
    aws.faults[first] = FAULTS["timed out before" if followed else "killed before"]
    aws.faults[first + 1] = FAULTS["killed before"]
    with pytest.raises(Killed):
        run_job(JOB, Home(tmp_path / "home"), fresh=False)
    (folder,) = Home.of_environment().jobs()
    aws.faults = {} if followed else {len(aws.made): FAULTS["timed out before"]}
    with folder.locked() if followed else nullcontext():
        said, failed = as_seen(capsys)
    seen = re.search(r"^Phase: +Running at (\S+), when it was observed last$", said, re.M)
    assert seen is not None and before - timedelta(seconds=1) <= datetime.fromisoformat(seen[1]) <= datetime.now(UTC)
    assert "AWS did not answer: " in failed and "AWS did not answer: " in said
    assert f"; the job was observed last at {seen[1]}" in said

    aws.faults = {}
    status.command("tune")
    said = capsys.readouterr().out
    assert "Phase:          Running\n" in said and "observed last" not in said, "AWS answers again"
    (condition,) = [each for each in folder.read_status().conditions if each.type == "Running"]
    assert condition.status == "True"


@pytest.mark.parametrize("phase", ["Running", "Restarting", "Suspended"])
def test_the_list_and_one_job_say_of_when_they_are_where_the_keys_are_wrong(
    aws: Aws, tmp_path: Path, capsys: pytest.CaptureFixture[str], phase: Phase
) -> None:
    """Nor does what AWS did not answer an hour ago stay beside that."""
    run(aws, tmp_path / "home")
    (folder,) = Home.of_environment().jobs()
    known = folder.read_status()
    if phase == "Running":
        known = unobserved(known, RootCause(failure_class="Temporary", message="an earlier outage"), datetime.now(UTC))
    else:
        ended = known.attempts[0].model_copy(update={"outcome": "Stopped"})
        known = known.model_copy(update={"phase": phase, "attempts": [ended]})
    folder.write_status(known)
    for shown in (None, "tune"):
        fault = "wrong keys" if phase == "Running" else "timed out before"
        aws.faults = {len(aws.made): WRONG_KEYS if fault == "wrong keys" else FAULTS[fault]}
        capsys.readouterr()
        with pytest.raises(typer.Exit):
            status.command(shown)
        said, failed = capsys.readouterr()
        assert re.search(rf"{phase} at \S+Z, when it was observed last", said)
        assert "an earlier outage" not in said + failed
        assert "tried again" not in failed


def test_status_has_the_training_job_and_its_region(
    aws: Aws, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(aws, tmp_path / "home")
    capsys.readouterr()
    status.command("tune")
    assert f"Training job:   {NAME} in us-east-1\n" in capsys.readouterr().out
    status.command("tune", "json")
    (attempt,) = json.loads(capsys.readouterr().out)["status"]["attempts"]
    assert attempt["trainingJobArn"] == f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{NAME}"


def test_a_training_job_that_is_gone_is_reported_at_once_and_by_every_command(
    aws: Aws, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(aws, tmp_path / "home")
    del aws.service.jobs[NAME]
    capsys.readouterr()
    status.command("tune")
    first = capsys.readouterr().out
    assert f"NotFound (host algo-1): SageMaker knows no training job {NAME}, since 20" in first
    assert "hint: to stop a job use `zerotune stop`: what is deleted is started again" in first
    status.command("tune")
    assert capsys.readouterr().out == first, "since when does not change"
    run(aws, tmp_path / "home")
    said = capsys.readouterr().out
    assert said.count(f"tune: waits (NotFound): SageMaker knows no training job {NAME}, since 20") == 1
    assert len(aws.service.created) == 1


@pytest.mark.slow
def test_a_condition_and_an_event_say_that_a_training_job_is_gone(account: Account) -> None:
    account.stand_in.command = UNTIL_STOPPED
    job = sagemaker_job()

    async def step(before: JobStatus) -> JobStatus:
        driver = Driver(job, account.backend(job), 0.0, lambda: datetime.now(UTC))
        return (await driver.step(before)).status

    running = asyncio.run(account.drive(job, lambda status: status.phase == "Running"))
    account.stand_in.jobs.pop(job_name(job, 0)).kill()
    gone = asyncio.run(step(running))
    (condition,) = [each for each in gone.conditions if each.type == "Running"]
    assert (condition.status, condition.reason) == ("False", "NotFound")
    assert "it counts as deleted, and the next attempt starts" in condition.message
    (event,) = [each for each in changes(running, gone) if each.reason == "NotFound"]
    assert event.type == "Warning"
    assert event.message.endswith("to stop a job set runPolicy.suspend: what is deleted is started again")
    assert changes(gone, asyncio.run(step(gone))) == [], "it is no news any more"


@pytest.mark.slow
def test_a_training_job_that_sagemaker_takes_a_while_to_show_is_nothing_to_report(account: Account) -> None:
    account.stand_in.visible_after, account.stand_in.command = 0.5, UNTIL_STOPPED
    job = sagemaker_job()
    created = asyncio.run(account.drive(job, lambda status: status.phase == "Planned"))
    assert created.root_cause is None
    assert account.stand_in.created == [job_name(job, 0)]


def test_who_leaves_a_job_is_told_whether_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = JobFolder(tmp_path / "tune")
    say_left(folder, JobStatus(phase="Planned"))
    assert capsys.readouterr().out == "tune: no training job of it runs at SageMaker; run it again to start one\n"
    say_left(folder, JobStatus(phase="Running", attempts=[Attempt(number=0)]))
    assert "tune: goes on at SageMaker; `zerotune status tune` shows it" in capsys.readouterr().out
