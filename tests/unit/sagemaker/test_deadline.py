"""A job on SageMaker that runs for longer than `runPolicy.activeDeadlineSeconds`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.sagemaker.clocked import Operator
from tests.unit.sagemaker.in_process import LIFE, Aws
from tests.unit.sagemaker.jobs import sagemaker_job


@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
def test_a_job_past_its_deadline_is_stopped_and_fails(tmp_path: Path, kind: str) -> None:
    job = sagemaker_job(kind)
    policy = job.spec.run_policy.model_copy(update={"active_deadline_seconds": 600})
    aws = Aws(tmp_path, (*LIFE[:2], *["Training"] * 60))
    operator = Operator(aws, [job.model_copy(update={"spec": job.spec.model_copy(update={"run_policy": policy})})])

    asyncio.run(operator.run(590))
    assert operator.statuses[0].phase == "Running"
    asyncio.run(operator.run(300))
    aws.close()

    (status,) = operator.statuses
    assert status.root_cause is not None
    assert (status.phase, status.root_cause.failure_class) == ("Failed", "DeadlineExceeded")
    assert (aws.jobs[0].status, len(aws.service.created)) == ("Stopped", 1)
