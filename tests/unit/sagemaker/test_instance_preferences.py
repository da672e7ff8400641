"""A job for several instance types: a plan for each that it fits on, and SageMaker selects one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.kubernetes.rendering import EXAMPLES
from tests.unit.sagemaker.account import Account
from tests.unit.sagemaker.jobs import SETTINGS, plan, sagemaker_job, training_job
from zerotune_devtools.sagemaker.service_model import problems_of
from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.api.load import load_jobs
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.sagemaker.layout import job_name
from zerotune_operator.backends.sagemaker.observe import observe
from zerotune_operator.backends.sagemaker.render import render
from zerotune_operator.lifecycle.job_events import changes
from zerotune_operator.lifecycle.observation import AttemptRef
from zerotune_operator.lifecycle.transitions import advance, planned
from zerotune_operator.plan import DoesNotFitError
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.errors import ConfigurationError

GPU_TYPES = ["ml.p4d.24xlarge", "ml.g5.12xlarge"]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def job_on(*types: str, gpus: int = 8, nodes: int = 2, **training: Any) -> Job:
    job = sagemaker_job(nodes=nodes, gpus=gpus, instanceTypes=list(types))
    assert isinstance(job, FineTuneJob)
    given = job.spec.training.model_validate({"learningRate": 1e-5, **training})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"training": given})})


def test_the_request_names_the_types_in_order_and_hands_each_its_own_plan() -> None:
    made = training_job(job_on(*GPU_TYPES, globalBatchSize=64))

    assert problems_of("CreateTrainingJob", made.request) == []
    assert made.request["ResourceConfig"] == {
        "InstancePreferences": [{"InstanceType": "ml.p4d.24xlarge"}, {"InstanceType": "ml.g5.12xlarge"}],
        "InstanceCount": 2,
        "VolumeSizeInGB": 300,
    }
    assert sorted(made.files) == [
        *(f"ml.g5.12xlarge/{name}" for name in ("config.json", "deepspeed.json", "hostfile")),
        *(f"ml.p4d.24xlarge/{name}" for name in ("config.json", "deepspeed.json", "hostfile")),
        "status-uri",
    ]
    assert made.files["ml.g5.12xlarge/hostfile"] == "algo-1 slots=4\nalgo-2 slots=4\n"


@pytest.mark.parametrize("wanted", [None, 64])
def test_every_type_keeps_the_global_batch_and_counts_as_the_same_result(wanted: int | None) -> None:
    training = {} if wanted is None else {"globalBatchSize": wanted}
    made = plan(job_on(*GPU_TYPES, perDeviceTrainBatchSize=2, **training))

    first, second = made.alternatives
    assert [each.batch.global_size for each in (first, second)] == [wanted or 32] * 2
    assert (second.batch.data_parallel, second.batch.accumulation) == (8, 2 * first.batch.accumulation)
    assert first.config.digest() == second.config.digest() == made.summary().config_digest
    again = TrainConfig.model_validate_json(second.artifacts()["config.json"])
    assert again.digest() == first.config.digest(), "the trainer finds the same"


def test_the_example_fits_on_all_of_its_types() -> None:
    (job,) = load_jobs(EXAMPLES / "sagemaker-instance-types.yaml")
    made = plan(job, model="llama-3.1-8b")

    assert made.left_out == {}
    assert [(each.batch.global_size, each.batch.accumulation) for each in made.alternatives] == [
        (64, 4),
        (64, 4),
        (64, 8),
    ]
    assert problems_of("CreateTrainingJob", render(made, job, SETTINGS).request) == []


def test_types_that_the_job_does_not_fit_on_are_left_out_with_the_reason() -> None:
    small = {"globalBatchSize": 48, "perDeviceTrainBatchSize": 1, "gradientCheckpointing": True}
    job = job_on("ml.g5.xlarge", "ml.m5.4xlarge", "ml.p4d.24xlarge", "ml.g5.12xlarge", **small)
    made = plan(job, model="llama-3.1-8b")

    assert [each.instance_type for each in made.alternatives] == ["ml.p4d.24xlarge", "ml.g5.12xlarge"]
    assert list(made.left_out) == ["ml.m5.4xlarge", "ml.g5.xlarge"]
    assert made.left_out["ml.m5.4xlarge"] == "an instance has no GPUs, and topology.gpusPerNode is 8"
    assert "do not fit on 2 ranks" in made.left_out["ml.g5.xlarge"]
    assert any(note.startswith("ml.g5.xlarge is left out: ") for note in made.notes)


def test_a_type_whose_ranks_do_not_divide_the_batch_is_left_out() -> None:
    made = plan(job_on("ml.p4d.24xlarge", "ml.g5.12xlarge", gpus=8, nodes=3, globalBatchSize=36 * 2))
    assert [each.instance_type for each in made.alternatives] == ["ml.p4d.24xlarge", "ml.g5.12xlarge"]

    made = plan(job_on("ml.p4d.24xlarge", "ml.g5.12xlarge", gpus=8, nodes=3, globalBatchSize=36))
    assert [each.instance_type for each in made.alternatives] == ["ml.g5.12xlarge"]
    assert made.left_out["ml.p4d.24xlarge"].startswith("training.globalBatchSize 36 is not micro batch")


def test_a_job_that_fits_on_none_is_refused_with_the_reason_of_each() -> None:
    with pytest.raises(DoesNotFitError) as caught:
        plan(job_on("ml.g5.xlarge", "ml.g4dn.12xlarge", gpus=1), model="llama-3.1-70b")

    message = caught.value.message
    assert message.startswith("the job can run on none of backend.sagemaker.instanceTypes: ml.g5.xlarge: ")
    assert "do not fit on 2 ranks" in message and "; ml.g4dn.12xlarge: " in message
    assert caught.value.hint.startswith("name other instance types; for ml.g5.xlarge: ")
    assert list(caught.value.plan.left_out) == ["ml.g5.xlarge", "ml.g4dn.12xlarge"]


def test_what_is_wrong_on_any_type_is_said_once() -> None:
    with pytest.raises(ConfigurationError, match=r"^training\.globalBatchSize 7 is not") as caught:
        plan(job_on("ml.p4d.24xlarge", "ml.g5.48xlarge", globalBatchSize=7))
    assert "ml.p4d" not in str(caught.value)


@pytest.mark.parametrize(
    ("gpus", "message"),
    [(2, "topology.gpusPerNode is 2, and none .* ml.p4d.24xlarge has 8, ml.g5.12xlarge has 4"), (0, "is 0, and none")],
)
def test_gpus_that_no_type_has_are_rejected(gpus: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        plan(job_on(*GPU_TYPES, gpus=gpus))
    assert "set topology.gpusPerNode to 8" in caught.value.hint


def test_the_status_has_the_plan_of_the_type_that_was_selected() -> None:
    summary = plan(job_on(*GPU_TYPES, "ml.m5.xlarge", globalBatchSize=64)).summary()
    attempt = AttemptRef(0, ("algo-1", "algo-2"), "u", str(summary.config_digest), 9400, "s3://bbb/out")
    before = planned(JobStatus(), summary, NOW)
    description = {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Training"}

    waiting = advance(before, observe(attempt, description, {}), RunPolicy(), NOW)
    assert waiting.plan is not None and (waiting.plan.instance_type, waiting.plan.world_size) == (None, 16)

    selected = {"ResourceConfig": {"SelectedInstanceType": "ml.g5.12xlarge", "SelectedInstanceCount": 2}}
    running = advance(waiting, observe(attempt, description | selected, {}), RunPolicy(), NOW)
    assert running.plan is not None
    assert (running.plan.instance_type, running.plan.world_size) == ("ml.g5.12xlarge", 8)
    assert running.plan.config_digest == summary.config_digest
    (event,) = changes(waiting, running)
    assert (event.reason, event.message) == (
        "InstanceTypeSelected",
        "ml.g5.12xlarge: 2 nodes, 8 ranks, a batch of 64, ZeRO stage 0",
    )
    assert changes(running, advance(running, observe(attempt, description | selected, {}), RunPolicy(), NOW)) == []


def test_the_event_of_the_plan_names_the_types_and_those_left_out() -> None:
    summary = plan(job_on(*GPU_TYPES, "ml.m5.xlarge", globalBatchSize=64)).summary()
    (event,) = changes(JobStatus(), planned(JobStatus(), summary, NOW))
    assert event.message == (
        "on ml.p4d.24xlarge, else ml.g5.12xlarge: 2 nodes, 16 ranks, a batch of 64, ZeRO stage 0 on the first; "
        "ml.m5.xlarge is left out: an instance has no GPUs, and topology.gpusPerNode is 8"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
def test_a_type_without_capacity_gives_way_to_the_next(account: Account, kind: str) -> None:
    account.stand_in.faults.without_capacity.add("ml.m5.4xlarge")
    job = sagemaker_job(kind, instanceTypes=["ml.m5.4xlarge", "ml.c5.9xlarge"])
    asyncio.run(account.leave_result(job))

    status = asyncio.run(account.drive(job, lambda status: status.phase == "Succeeded"))

    assert status.plan is not None and status.plan.instance_type == "ml.c5.9xlarge"
    assert account.stand_in.created == [job_name(job, 0)]


@pytest.mark.slow
def test_no_capacity_of_any_type_is_waited_for(account: Account) -> None:
    account.stand_in.faults.without_capacity.update(["ml.m5.4xlarge", "ml.c5.9xlarge"])
    job = sagemaker_job(instanceTypes=["ml.m5.4xlarge", "ml.c5.9xlarge"])
    status = asyncio.run(account.drive(job, lambda status: status.phase == "Restarting"))
    assert status.root_cause is not None and status.root_cause.failure_class == "InsufficientCapacity"
