"""How often AWS is asked: in the life of a job, and by an operator with many of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.sagemaker.account import result_of
from tests.unit.sagemaker.clocked import INTERVAL_SECONDS, Operator
from tests.unit.sagemaker.in_process import LIFE, Aws
from tests.unit.sagemaker.jobs import sagemaker_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.sagemaker.layout import attempt_uri
from zerotune_trainer.progress import NodeReport

MINUTES = 60


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[Aws]:
    """An account whose training jobs go on with each description, which is one a minute: they train for an hour."""
    made = Aws(tmp_path, (*LIFE[:2], *["Training"] * MINUTES, *LIFE[-2:]))
    yield made
    made.close()


def test_a_job_of_an_hour_is_created_once_and_described_once_a_minute(aws: Aws) -> None:
    job = sagemaker_job()
    operator = Operator(aws, [job])

    async def run() -> None:
        await operator.run(60 * MINUTES)
        aws.objects |= result_of(job)
        await operator.run(60 * 10)

    asyncio.run(run())
    assert operator.statuses[0].phase == "Succeeded"
    counts = Counter(aws.made)
    print(dict(counts))
    # The claim of its output, and its folder, which takes four files and a secret.
    assert (counts.pop("CreateTrainingJob"), counts.pop("PutObject")) == (1, 6)
    assert counts.pop("DescribeTrainingJob") <= MINUTES + 10
    assert counts.pop("GetObject") <= 60 / INTERVAL_SECONDS * (MINUTES + 10), "a report an observation"
    assert counts.pop("ListObjectsV2") == 1, "of the output, once it is there"
    assert not counts


def test_a_job_that_waits_for_spot_instances_is_described_once_a_minute(aws: Aws) -> None:
    job = sagemaker_job(spot=True)
    operator, end = Operator(aws, [job]), datetime(2026, 1, 1, tzinfo=UTC)
    asyncio.run(operator.run(60 * 5))
    report = NodeReport(host="algo-1", exit_code=143, ended_at=end)
    name = f"{attempt_uri(job, 0)}/status/algo-1.json".removeprefix("s3://")
    aws.objects[name] = report.model_dump_json(by_alias=True).encode()
    aws.made.clear()
    asyncio.run(operator.run(60 * 10))
    assert aws.made.count("DescribeTrainingJob") <= 10 + 3, "and some times as the host has ended"


@pytest.mark.slow
def test_a_hundred_jobs_that_run_are_each_described_once_a_minute(aws: Aws) -> None:
    operator = Operator(aws, [with_own_output(sagemaker_job(name=f"tune-{number}")) for number in range(100)])
    asyncio.run(operator.run(60 * 5))
    assert {status.phase for status in operator.statuses} == {"Running"}
    for _ in range(3):
        aws.made.clear()
        asyncio.run(operator.run(60))
        counts = Counter(aws.made)
        print(dict(counts))
        assert counts.keys() == {"DescribeTrainingJob", "GetObject"}
        assert counts["DescribeTrainingJob"] <= 100
        assert counts["GetObject"] <= 100 * 60 / INTERVAL_SECONDS


def with_own_output(job: Job) -> Job:
    output = job.spec.output.model_copy(update={"uri": f"s3://results/{job.metadata.name}"})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"output": output})})
