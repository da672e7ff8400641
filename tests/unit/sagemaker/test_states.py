"""The states of training jobs at the stand-in are those that SageMaker documents, and a job is shown well in each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pytest

from tests.unit.sagemaker.account import UNTIL_STOPPED, Account, result_of
from tests.unit.sagemaker.clocked import Operator
from tests.unit.sagemaker.in_process import Aws
from tests.unit.sagemaker.jobs import sagemaker_job
from zerotune_devtools.sagemaker.faults import AwsError
from zerotune_devtools.sagemaker.service_model import service_model
from zerotune_devtools.sagemaker.states import FOLLOWING, STATUSES, require_follows
from zerotune_devtools.sagemaker.training_job import TrainingJob
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.sagemaker.layout import job_name


def test_the_stand_in_knows_every_state_of_the_service() -> None:
    model = service_model()
    assert STATUSES.keys() == set(model.shape_for("SecondaryStatus").enum)
    assert {*STATUSES.values(), "Deleting"} == set(model.shape_for("TrainingJobStatus").enum)
    assert {each for following in FOLLOWING.values() for each in following} | {"Starting"} == STATUSES.keys()


def test_a_life_that_is_not_documented_is_an_error() -> None:
    require_follows("Training", "Downloading")
    with pytest.raises(ValueError, match="that is Completed is never Training next"):
        require_follows("Training", "Completed")


UNUSUAL = (
    *("Starting", "LaunchingMLInstances", "PreparingTrainingStack", "DownloadingTrainingImage", "Downloading"),
    *("Training", "Updating", "Training", "Restarting", "Downloading", "Training", "Uploading", "Completed"),
)
"""A life through states that are described nowhere, or no longer."""


@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
def test_a_life_through_undocumented_states_is_one_attempt(tmp_path: Path, kind: str) -> None:
    job, aws = sagemaker_job(kind), Aws(tmp_path, UNUSUAL[1:])
    aws.objects |= result_of(job)
    operator, phases = Operator(aws, [job]), list[str | None]()
    for _ in UNUSUAL:
        asyncio.run(operator.run(60))
        phases.append(operator.statuses[0].phase)
    aws.close()

    assert lived(aws.jobs[0]) == list(UNUSUAL)
    assert [phase for phase, _ in groupby(phases)] == ["Planned", "Running", "Planned", "Running", "Succeeded"]
    assert (operator.statuses[0].restarts, len(operator.statuses[0].attempts)) == (0, 1)


def lived(job: TrainingJob) -> list[str]:
    return [transition["Status"] for transition in job.transitions]


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_job_waits_for_capacity_then_runs_is_interrupted_and_ends(account: Account) -> None:
    job, stand_in = sagemaker_job(spot=True), account.stand_in
    stand_in.command = ("sh", "-c", "trap 'exit 143' TERM; sleep 2 & wait $!")
    stand_in.capacity.clear()
    waits = asyncio.run(account.drive(job, lambda status: status.root_cause is not None))
    assert waits.root_cause is not None and waits.root_cause.failure_class == "Unschedulable"
    training_job = stand_in.jobs[job_name(job, 0)]
    stand_in.capacity.set()
    wait_until(lambda: training_job.secondary == "Training")
    stand_in.capacity.clear()
    training_job.interrupt()
    wait_until(lambda: training_job.secondary == "Pending")
    stand_in.capacity.set()

    async def end() -> JobStatus:
        await account.leave_result(job)
        return await account.drive(job, lambda status: status.phase == "Succeeded", waits)

    assert asyncio.run(end()).restarts == 0
    first, again = ["Starting", "Pending", "Downloading", "Training"], ["Uploading", "Completed"]
    assert lived(training_job) == [*first, "Interrupted", *first, *again]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "has_capacity", "secondary"),
    [
        (sagemaker_job(maxRuntimeSeconds=1), True, "MaxRuntimeExceeded"),
        (sagemaker_job(maxRuntimeSeconds=1, maxWaitSeconds=1, spot=True), False, "MaxWaitTimeExceeded"),
    ],
)
def test_a_limit_that_is_exceeded_ends_the_attempt(
    account: Account, job: Job, has_capacity: bool, secondary: str
) -> None:
    account.stand_in.command = UNTIL_STOPPED
    if not has_capacity:
        account.stand_in.capacity.clear()
    status = asyncio.run(account.drive(job, lambda status: status.phase == "Restarting"))
    assert status.root_cause is not None
    assert "took longer than backend.sagemaker.max" in status.root_cause.message
    training_job = account.stand_in.jobs[job_name(job, 0)]
    assert (training_job.status, training_job.secondary) == ("Stopped", secondary)


@pytest.mark.slow
def test_only_a_job_that_has_ended_is_deleted_and_its_name_is_free_then(account: Account) -> None:
    account.stand_in.command, account.stand_in.deleting_seconds = UNTIL_STOPPED, 1.0
    job = sagemaker_job()
    name = job_name(job, 0)
    running = asyncio.run(account.drive(job, lambda status: status.phase == "Running"))
    request = account.stand_in.jobs[name].request
    with pytest.raises(AwsError, match="only jobs in a terminal state: it is InProgress"):
        account.stand_in.call("SageMaker.DeleteTrainingJob", {"TrainingJobName": name})
    account.delete(name)
    with pytest.raises(AwsError, match="must be unique"):
        account.stand_in.call("SageMaker.CreateTrainingJob", request)
    gone = asyncio.run(account.drive(job, lambda status: status.phase == "Restarting", running))
    assert (gone.restarts, gone.attempts[0].failure_class) == (0, "Deleted")
    time.sleep(1)
    account.stand_in.call("SageMaker.CreateTrainingJob", request)
    assert account.stand_in.created.count(name) == 2
