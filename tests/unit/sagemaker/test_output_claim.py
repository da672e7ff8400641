"""Two jobs with one output: the second is rejected before any instance is paid for, as long as the first one runs."""

from __future__ import annotations

import asyncio
from typing import Any

import boto3
import pytest

from tests.unit.sagemaker.account import UNTIL_STOPPED, Account
from tests.unit.sagemaker.jobs import plan, sagemaker_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.sagemaker.layout import job_name
from zerotune_trainer.errors import ConfigurationError, TemporaryError

pytestmark = pytest.mark.slow

KINDS = ("FineTuneJob", "InferenceJob")
FIRST = sagemaker_job()


def second(kind: str = "FineTuneJob") -> Job:
    """Another job with the same output."""
    job = sagemaker_job(kind, name="other")
    return job.model_copy(update={"metadata": job.metadata.model_copy(update={"uid": "of-the-second"})})


def create(account: Account, job: Job, **timing: Any) -> None:
    """What the driver does for the first attempt of a job."""
    backend = account.backend(job, **timing)
    asyncio.run(backend.apply(backend.render(plan(job))))


def run_first(account: Account) -> str:
    """The name of the training job of a job that runs."""
    account.stand_in.command = UNTIL_STOPPED
    asyncio.run(account.drive(FIRST, lambda status: status.phase == "Running"))
    return job_name(FIRST, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_to_which_a_training_job_writes_is_no_other_jobs(account: Account, kind: str) -> None:
    name = run_first(account)
    with pytest.raises(
        ConfigurationError, match=f"s3://results/r is written to by the training job {name} of"
    ) as caught:
        asyncio.run(account.drive(second(kind), lambda status: bool(status.attempts)))
    assert "name another output.uri" in caught.value.hint
    assert account.stand_in.created == [name]
    with pytest.raises(ConfigurationError, match="which has not ended"):
        asyncio.run(account.backend(second(kind)).creation.require_own_output())


def test_an_output_is_free_once_the_training_job_has_ended(account: Account) -> None:
    name = run_first(account)
    account.stand_in.call("SageMaker.StopTrainingJob", {"TrainingJobName": name})
    account.stand_in.jobs[name].kill()
    create(account, second())
    assert account.stand_in.created == [name, job_name(second(), 0)]
    with pytest.raises(ConfigurationError, match="of FineTuneJob other"):
        create(account, FIRST)


def test_a_claim_whose_training_job_was_never_created_is_waited_for_then_void(account: Account) -> None:
    account.fail("CreateTrainingJob", "ThrottlingException")
    with pytest.raises(TemporaryError):
        create(account, FIRST)
    with pytest.raises(TemporaryError, match="SageMaker does not know that training job") as caught:
        create(account, second())
    assert "after 20 s it counts as deleted" in caught.value.hint
    create(account, second(), visible_within=0.0)
    assert account.stand_in.created == [job_name(second(), 0)]


def test_of_two_jobs_that_claim_an_output_at_once_one_has_it(account: Account) -> None:
    jobs = [FIRST, second()]

    async def both() -> list[BaseException | None]:
        backends = [account.backend(job) for job in jobs]
        made = [backend.apply(backend.render(plan(job))) for backend, job in zip(backends, jobs, strict=True)]
        return await asyncio.gather(*made, return_exceptions=True)

    account.stand_in.command = UNTIL_STOPPED
    failed = [error for error in asyncio.run(both()) if error is not None]
    assert [type(error) for error in failed] in ([TemporaryError], [ConfigurationError])
    assert len(account.stand_in.created) == 1


def test_each_attempt_of_a_job_renews_its_claim(account: Account) -> None:
    account.stand_in.failure_reasons.append("InternalServerError: We encountered an internal error.")

    async def run() -> JobStatus:
        await account.leave_result(FIRST, 1)
        return await account.drive(FIRST, lambda status: status.phase == "Succeeded")

    assert len(asyncio.run(run()).attempts) == 2
    claim = boto3.resource("s3").Object("results", "r/.sagemaker/claim.json").get()["Body"].read().decode()
    assert job_name(FIRST, 1) in claim


def test_a_job_that_runs_in_another_region_is_not_started_a_second_time(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another machine does whose default region is another one. The stand-in has one list for all regions."""
    name = run_first(account)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    elsewhere = account.backend(FIRST)
    monkeypatch.setattr(elsewhere.creation._client, "region", "eu-west-1")
    with pytest.raises(ConfigurationError, match=f"the training job {name} of this job in us-east-1, which") as caught:
        asyncio.run(elsewhere.creation.require_own_output())
    assert caught.value.hint.startswith("set backend.sagemaker.region: us-east-1 to follow it there, or name")
    with pytest.raises(ConfigurationError, match="in us-east-1, which has not ended"):
        asyncio.run(elsewhere.apply(elsewhere.render(plan(FIRST))))
    assert account.stand_in.created == [name]


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_runs_under_another_prefix_is_not_started_a_second_time(account: Account, kind: str) -> None:
    """As from another machine, where the file has another backend.sagemaker.jobNamePrefix."""
    account.stand_in.command = UNTIL_STOPPED
    first, renamed = sagemaker_job(kind), sagemaker_job(kind, jobNamePrefix="renamed")
    asyncio.run(account.drive(first, lambda status: status.phase == "Running"))
    name = job_name(first, 0)
    with pytest.raises(ConfigurationError, match=f"the training job {name} of this job, which has not") as caught:
        create(account, renamed)
    assert caught.value.hint.startswith("set backend.sagemaker.jobNamePrefix to what it was to follow it, or name")
    assert account.stand_in.created == [name]


def test_a_deleted_attempt_is_not_created_again_beside_a_later_one(account: Account) -> None:
    """Another machine, which knows of no attempt, goes through them all, and finds the one that runs."""
    account.stand_in.command = UNTIL_STOPPED
    for attempt in (0, 1):
        backend = account.backend(FIRST)
        asyncio.run(backend.apply(backend.render(plan(FIRST, attempt))))
    first, later = job_name(FIRST, 0), job_name(FIRST, 1)
    account.delete(first)
    found = asyncio.run(account.drive(FIRST, lambda status: len(status.attempts) == 2))
    assert [attempt.number for attempt in found.attempts] == [0, 1]
    assert account.stand_in.created == [first, later]
