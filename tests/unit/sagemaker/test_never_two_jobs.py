"""One training job an attempt, or an error that says why, whatever AWS answers and whenever the process ends."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.unit.sagemaker.account import UNTIL_STOPPED, Account
from tests.unit.sagemaker.jobs import sagemaker_job, training_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.sagemaker.layout import job_name
from zerotune_trainer.errors import ConfigurationError

pytestmark = pytest.mark.slow

FAULTS: dict[str, dict[str, Any]] = {
    "creation throttled": {"operation": "CreateTrainingJob", "code": "ThrottlingException"},
    "no quota": {"operation": "CreateTrainingJob", "code": "ResourceLimitExceeded", "times": 2},
    "creation lost": {"operation": "CreateTrainingJob"},
    "answer to creation lost": {"operation": "CreateTrainingJob", "after_effect": True},
    "creation in use": {"operation": "CreateTrainingJob", "code": "ResourceInUse", "after_effect": True},
    "description throttled": {"operation": "DescribeTrainingJob", "code": "ThrottlingException", "times": 2},
    "description lost": {"operation": "DescribeTrainingJob", "times": 2},
}


def _ended(status: JobStatus) -> bool:
    return status.phase in ("Succeeded", "Failed")


def _suspended(job: Job) -> Job:
    policy = job.spec.run_policy.model_copy(update={"suspend": True})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"run_policy": policy})})


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("visible_after", [0.0, 0.5])
def test_a_fault_makes_no_second_training_job(account: Account, fault: dict[str, Any], visible_after: float) -> None:
    account.stand_in.visible_after = visible_after
    job = sagemaker_job()

    async def run() -> JobStatus:
        await account.leave_result(job)
        account.fail(**fault)
        return await account.drive(job, _ended)

    status = asyncio.run(run())
    assert (status.phase, status.restarts) == ("Succeeded", 0), status
    assert account.stand_in.created == [job_name(job, 0)]


@pytest.mark.parametrize("seed", range(10))
def test_processes_that_end_between_any_two_calls_leave_one_training_job(account: Account, seed: int) -> None:
    chance, job = random.Random(seed), sagemaker_job(name=f"tune-{seed}")
    account.stand_in.visible_after = chance.choice([0.0, 0.3, 1.0])
    for name in chance.sample(sorted(FAULTS), 3):
        account.fail(**FAULTS[name])

    async def run() -> JobStatus:
        await account.leave_result(job)
        return await account.drive(job, _ended, ends=lambda: chance.random() < 0.4)

    assert asyncio.run(run()).phase == "Succeeded"
    assert account.stand_in.created == [job_name(job, 0)]


def test_a_name_that_somebody_else_has_is_an_error_that_says_so(account: Account) -> None:
    job = sagemaker_job()
    other = job.model_copy(update={"metadata": job.metadata.model_copy(update={"uid": "another"})})
    request = training_job(other).request | {"TrainingJobName": job_name(job, 0)}
    account.stand_in.call("SageMaker.CreateTrainingJob", request)

    with pytest.raises(ConfigurationError, match="that this job has not created, and its attempt 0"):
        asyncio.run(account.drive(job, _ended))
    assert account.stand_in.calls["CreateTrainingJob"] == 1, "ours asks for nothing"


def test_a_training_job_that_is_deleted_is_made_again_under_another_name(account: Account) -> None:
    job = sagemaker_job()

    async def run() -> JobStatus:
        running = await account.drive(job, lambda status: status.phase == "Running")
        account.delete(job_name(job, 0))
        await account.leave_result(job, 1)
        backend = account.backend(job, visible_within=0.0)
        seen = await backend.observe(backend.attempt_ref(0, ""))
        assert seen.nodes[0].failure is not None and seen.nodes[0].failure.failure_class == "Deleted"
        return running

    assert asyncio.run(run()).restarts == 0


def test_missing_capacity_is_waited_for_under_a_new_name(account: Account) -> None:
    account.stand_in.failure_reasons.append("CapacityError: Unable to provision requested ML compute capacity.")
    status = asyncio.run(account.drive(sagemaker_job(), lambda status: status.phase == "Restarting"))
    assert status.root_cause is not None
    assert (status.root_cause.failure_class, status.restarts) == ("InsufficientCapacity", 0)


def test_a_suspended_job_is_stopped_once(account: Account) -> None:
    account.stand_in.command = UNTIL_STOPPED
    job = sagemaker_job()

    async def run() -> JobStatus:
        running = await account.drive(job, lambda status: status.phase == "Running")
        return await account.drive(_suspended(job), lambda status: status.phase == "Suspended", running)

    assert asyncio.run(run()).attempts[0].outcome == "Stopped"
    assert account.stand_in.calls["StopTrainingJob"] == 1


def test_a_deleted_job_leaves_nothing_running(account: Account) -> None:
    account.stand_in.command = UNTIL_STOPPED
    job = sagemaker_job()

    async def run(status: JobStatus) -> None:
        await account.backend(job).finalize(status)

    running = asyncio.run(account.drive(job, lambda status: status.phase == "Running"))
    asyncio.run(run(JobStatus()))  # Its status was never written.
    assert account.stand_in.jobs[job_name(job, 0)].status in ("Stopping", "Stopped")
    account.delete(job_name(job, 0))
    asyncio.run(run(running))  # What was there, and was deleted, holds nothing up.
    assert account.stand_in.calls["StopTrainingJob"] == 1


def test_a_job_is_described_once_a_minute_however_often_it_is_observed(account: Account) -> None:
    account.stand_in.command = UNTIL_STOPPED
    job, now = sagemaker_job(), [0.0]

    async def run() -> None:
        backend = account.backend(job, max_age=60.0, clock=lambda: now[0])
        await account.drive(job, lambda status: status.phase == "Running")
        account.stand_in.calls.clear()
        for second in range(120):
            now[0] = float(second)
            await backend.observe(backend.attempt_ref(0, ""))

    asyncio.run(run())
    assert account.stand_in.calls["DescribeTrainingJob"] <= 2
