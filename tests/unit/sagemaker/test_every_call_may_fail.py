"""Any call to AWS in the life of a job may go wrong, in any way: the job ends as it does without, with one training job
an attempt, and none that nobody knows.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sagemaker.account import SHAPE, result_of
from tests.unit.sagemaker.in_process import FAULTS, LIFE, Aws, Killed
from tests.unit.sagemaker.jobs import MODELS, SETTINGS, sagemaker_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.driver import Driver
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.sagemaker import follower, standalone
from zerotune_operator.backends.sagemaker.backend import SageMakerBackend
from zerotune_operator.backends.sagemaker.training_jobs import TrainingJobs
from zerotune_operator.cli.run_sagemaker import run_on_sagemaker
from zerotune_trainer.errors import TemporaryError

pytestmark = pytest.mark.slow

MOST_STEPS = 200
UNTIL_STOPPED = (*LIFE[:2], *["Training"] * 2 * MOST_STEPS)
JOB, INFERENCE = sagemaker_job(), sagemaker_job("InferenceJob")
End = tuple[Any, ...]


@dataclass
class Life:
    """A job's life under an operator: the status that was written, and the training jobs."""

    aws: Aws
    status: JobStatus

    def drive(self, job: Job, until: Callable[[JobStatus], bool]) -> None:
        """Make steps of processes that may end, and know the last status that was written."""
        backend = self._backend(job)
        for _ in range(MOST_STEPS):
            if until(self.status):
                return
            try:
                step = Driver(job, backend, 0.0, lambda: datetime.now(UTC)).step(self.status)
                self.status = asyncio.run(step).status
            except TemporaryError:
                continue
            except Killed:
                backend = self._backend(job)
        raise AssertionError(self.status)

    def delete(self, job: Job) -> None:
        """What its finalizer does."""
        for _ in range(MOST_STEPS):
            try:
                return asyncio.run(self._backend(job).finalize(self.status))
            except (TemporaryError, Killed):
                continue
        raise AssertionError("its finalizer stays")

    def _backend(self, job: Job) -> SageMakerBackend:
        async def find_inputs(_: JobStatus) -> Inputs:
            return Inputs(str(job.spec.model.uri), SHAPE, {})

        return SageMakerBackend(job, TrainingJobs(self.aws.client(), max_age=0.0), SETTINGS, find_inputs)


def _ended(status: JobStatus) -> bool:
    return status.phase in ("Succeeded", "Failed")


def _end(status: JobStatus, aws: Aws) -> End:
    """What is to be the same, whatever went wrong."""
    attempts = [(attempt.number, attempt.outcome) for attempt in status.attempts]
    jobs = {name: job.status for name, job in aws.service.jobs.items()}
    return status.phase, status.restarts, attempts, aws.service.created, jobs


def succeeds(aws: Aws, _: Path) -> End:
    life = Life(aws, JobStatus())
    life.drive(JOB, _ended)
    assert life.status.phase == "Succeeded"
    return _end(life.status, aws)


def infers(aws: Aws, _: Path) -> End:
    life = Life(aws, JobStatus())
    life.drive(INFERENCE, _ended)
    assert life.status.phase == "Succeeded"
    return _end(life.status, aws)


def is_edited_then_suspended(aws: Aws, _: Path) -> End:
    life, edited = Life(aws, JobStatus()), sagemaker_job(keepAliveSeconds=60)
    life.drive(JOB, lambda status: status.phase == "Running")
    life.drive(edited, lambda _: aws.jobs[0].request["ResourceConfig"].get("KeepAlivePeriodInSeconds") == 60)
    policy = edited.spec.run_policy.model_copy(update={"suspend": True})
    suspended = edited.model_copy(update={"spec": edited.spec.model_copy(update={"run_policy": policy})})
    life.drive(suspended, lambda status: status.phase == "Suspended")
    return _end(life.status, aws)


def is_deleted(aws: Aws, _: Path) -> End:
    life = Life(aws, JobStatus())
    life.drive(JOB, lambda status: status.phase == "Running")
    life.delete(JOB)
    (job,) = aws.jobs
    return job.status in ("Stopping", "Stopped"), aws.service.created


def is_run_by_the_command_line(aws: Aws, folder: Path) -> End:
    home = Home(folder)
    job_folder = home.create("FineTuneJob", JOB.metadata.name)
    for _ in range(MOST_STEPS):
        try:
            return _end(run_on_sagemaker(JOB, job_folder, home), aws)
        except (TemporaryError, Killed):
            continue
    raise AssertionError("it does not end")


LIVES = {
    succeeds: LIFE,
    infers: LIFE,
    is_edited_then_suspended: UNTIL_STOPPED,
    is_deleted: UNTIL_STOPPED,
    is_run_by_the_command_line: LIFE,
}
"""What becomes of a job, with what its training job goes through unless it is stopped."""


@contextmanager
def account(folder: Path, states: Sequence[str], job: Job = JOB) -> Iterator[Aws]:
    """An account with the model, and with the result that the first host of a job will have left."""
    aws = Aws(folder, states, objects={"models/m/config.json": (MODELS / "tiny-llama.json").read_bytes()})
    if states[-1] == "Completed":
        aws.objects |= result_of(job)
    yield aws
    aws.close()


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`zerotune run` waits for nothing."""
    monkeypatch.setattr(standalone, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(follower, "_FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(standalone, "OWN_ACCOUNT", SETTINGS)


def live(life: Callable[[Aws, Path], End], aws: Aws, folder: Path, monkeypatch: pytest.MonkeyPatch) -> End:
    monkeypatch.setattr(standalone, "SageMakerClient", lambda _: aws.client())
    return life(aws, folder)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("life", LIVES)
def test_a_fault_at_any_call_changes_nothing(
    life: Callable[[Aws, Path], End], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = INFERENCE if life is infers else JOB
    with account(tmp_path, LIVES[life], job) as aws:
        expected = live(life, aws, tmp_path / "none", monkeypatch)
    assert {"CreateTrainingJob", "DescribeTrainingJob", "PutObject", "GetObject"} <= set(aws.made)
    print(f"{life.__name__}: {len(aws.made)} calls, each of them {fault}")
    for number in range(len(aws.made)):
        with account(tmp_path, LIVES[life], job) as other:
            other.faults[number] = FAULTS[fault]
            assert live(life, other, tmp_path / str(number), monkeypatch) == expected, (number, other.made)


@pytest.mark.parametrize("seed", range(40))
def test_several_faults_and_spot_interruptions_change_nothing(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    with account(tmp_path, LIFE) as aws:
        expected = live(succeeds, aws, tmp_path, monkeypatch)
    at = chance.randrange(1, len(LIFE) - 1)
    with account(tmp_path, [*LIFE[:at], "Interrupted", "Starting", *LIFE[1:]]) as aws:
        aws.hidden = chance.choice([0, 1, 3])
        aws.faults |= {number: FAULTS[chance.choice(sorted(FAULTS))] for number in chance.sample(range(40), 8)}
        assert live(succeeds, aws, tmp_path, monkeypatch) == expected, aws.made
