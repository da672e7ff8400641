"""A checkpoint loads on as many ranks of the same ZeRO stage: the next attempt asks for no other instance types."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.sagemaker.account import Account
from tests.unit.sagemaker.jobs import plan, sagemaker_job
from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.plan import Partition, Plan, loading
from zerotune_trainer.errors import ConfigurationError

TYPES = ["ml.p4d.24xlarge", "ml.g5.12xlarge", "ml.g5.48xlarge"]
"""With 8, 4 and 8 GPUs."""


def job_on(*types: str, kind: str = "FineTuneJob", resume: str = "auto") -> Job:
    job = sagemaker_job(kind, gpus=8, instanceTypes=list(types))
    if not isinstance(job, FineTuneJob):
        return job
    checkpoint = job.spec.checkpoint.model_copy(update={"resume": resume})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"checkpoint": checkpoint})})


def types_of(found: Plan) -> list[str | None]:
    return [each.instance_type for each in found.alternatives]


def test_types_of_another_number_of_ranks_or_stage_are_left_out_with_the_reason() -> None:
    made = plan(job_on(*TYPES))
    stage = made.summary().zero_stage
    kept = loading(made, Partition(8, stage))

    assert types_of(kept) == ["ml.g5.12xlarge"]
    assert kept.left_out["ml.p4d.24xlarge"] == (
        f"its 16 ranks at ZeRO stage {stage} do not load the checkpoints of this job, which are of 8 ranks at ZeRO "
        f"stage {stage}"
    )
    assert kept.config.digest() == made.config.digest(), "it counts as the same result"
    assert kept.batch.global_size == made.batch.global_size
    assert loading(made, Partition(16, stage)).instance_type == "ml.p4d.24xlarge"
    assert loading(made, None) is made


def test_a_job_whose_checkpoints_load_on_no_type_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="are of 16 ranks at ZeRO stage 3") as caught:
        loading(plan(job_on(*TYPES)), Partition(16, 3))
    assert "name the instance type that the job ran on before" in caught.value.hint
    with pytest.raises(ConfigurationError, match=r"^ml\.m5\.4xlarge: its 2 ranks"):
        loading(plan(sagemaker_job()), Partition(4, 0))


async def _second_attempt(account: Account, job: Job, step: int) -> JobStatus:
    """The status of a job when its second attempt is there; the first made steps on the type of four GPUs."""
    account.stand_in.command = ("sh", "-c", "sleep 1; exit 1")
    account.stand_in.faults.without_capacity.update(["ml.p4d.24xlarge", "ml.g5.48xlarge"])
    await account.leave_progress(job, step)
    failed = await account.drive(job, lambda status: status.phase == "Restarting")
    account.stand_in.faults.without_capacity.clear()
    return await account.drive(job, lambda status: len(status.attempts) == 2, failed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "step", "expected"),
    [
        (job_on(*TYPES), 3, ["ml.g5.12xlarge"]),
        (job_on(*TYPES), 0, TYPES),
        (job_on(*TYPES, resume="never"), 3, TYPES),
        (job_on(*TYPES, kind="InferenceJob"), 3, TYPES),
    ],
    ids=["with steps", "without steps", "from the beginning", "inference"],
)
def test_the_next_attempt_asks_for_types_that_go_on(account: Account, job: Job, step: int, expected: list[str]) -> None:
    status = asyncio.run(_second_attempt(account, job, step))
    second = account.stand_in.jobs[account.stand_in.created[1]].request
    assert [each["InstanceType"] for each in second["ResourceConfig"]["InstancePreferences"]] == expected
    assert status.plan is not None
    assert sorted(status.plan.left_out) == sorted(set(TYPES) - set(expected))
