"""How jobs end on SageMaker, with real launchers and ranks on the hosts of the stand-in: what fails is seen to fail,
and what succeeds is whole on S3.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import yaml

from tests.trainer.sagemaker.test_run_on_sagemaker import SAGEMAKER, manifest, output_of
from zerotune_trainer.errors import DataError

if TYPE_CHECKING:
    from tests.trainer.local.conftest import Workplace
    from zerotune_devtools.sagemaker.server import SageMakerStandIn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def changed(file: Path, **spec: Any) -> Path:
    """The job of a file, with other parts."""
    job = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(job | {"spec": job["spec"] | spec}))
    return file


def reason_of_failure(aws: SageMakerStandIn) -> str:
    """Why the only training job there is has failed."""
    (training_job,) = aws.jobs.values()
    assert training_job.status == "Failed"
    return str(training_job.reason)


def test_d1_a_rank_that_fails_fails_the_training_job(
    aws: SageMakerStandIn, bucket: Any, workplace: Workplace, tmp_path: Path
) -> None:
    bucket.put_object(Key="bad.jsonl", Body=b'{"text": "whole"}\n{"text": 7}\n')
    file = changed(manifest(tmp_path, sagemaker=SAGEMAKER), data={"train": {"uris": ["s3://cwe/bad.jsonl"]}})

    code, said = workplace.zerotune("run", str(file))

    assert code == DataError.exit_code, said
    assert "cwe failed on rank" in said and "(Data)" in said
    assert "AlgorithmError: Data (exit code 65)" in reason_of_failure(aws)


PLUGIN = '''
import boto3
from transformers import TrainerCallback


class TakesTheBucketAway(TrainerCallback):
    """From the end of training on nobody can upload the model."""

    def on_train_end(self, args, state, control, **_):
        if state.is_world_process_zero:
            bucket = boto3.resource("s3").Bucket("results")
            bucket.objects.all().delete()
            bucket.delete()
'''


def test_d2_an_upload_of_the_output_that_fails_fails_the_training_job(
    aws: SageMakerStandIn, bucket: Any, workplace: Workplace, tmp_path: Path
) -> None:
    bucket.put_object(Key="plugin.py", Body=PLUGIN.encode())
    boto3.resource("s3").Bucket("results").create()
    file = changed(
        manifest(tmp_path, sagemaker=SAGEMAKER),
        plugin={"file": "s3://cwe/plugin.py", "callbacks": ["TakesTheBucketAway"]},
        output={"uri": "s3://results/out"},
        runPolicy={"maxRestarts": 0},
    )

    code, said = workplace.zerotune("run", str(file))

    assert code != 0 and "succeeded" not in said, said
    assert "cwe failed" in said and "s3://results/out" in said
    assert "s3://results/out" in reason_of_failure(aws)


SLOW_PLUGIN = '''
import time

from transformers import TrainerCallback
from zerotune_trainer.training import output


class UploadsForLong(TrainerCallback):
    """The first rank writes its output for longer than the others may wait for a step."""

    def on_train_end(self, args, state, control, **_):
        if state.is_world_process_zero:
            write = output.write_report
            output.write_report = lambda *arguments: (time.sleep(45), write(*arguments))[1]
'''


def test_d21_ranks_wait_for_an_upload_that_takes_longer_than_a_hang(
    aws: SageMakerStandIn, bucket: Any, workplace: Workplace, tmp_path: Path
) -> None:
    bucket.put_object(Key="plugin.py", Body=SLOW_PLUGIN.encode())
    file = changed(
        manifest(tmp_path, sagemaker=SAGEMAKER),
        plugin={"file": "s3://cwe/plugin.py", "callbacks": ["UploadsForLong"]},
        runPolicy={"maxRestarts": 0, "hangTimeoutSeconds": 30},
    )

    code, said = workplace.zerotune("run", str(file))

    assert code == 0, said
    (training_job,) = aws.jobs.values()
    assert training_job.status == "Completed"
    assert training_job.ended - training_job.started > 45
    assert "model.safetensors" in output_of(bucket)


def test_r54_r44_all_ranks_of_an_inference_have_their_output_on_s3(
    aws: SageMakerStandIn, bucket: Any, material: Path, workplace: Workplace, tmp_path: Path
) -> None:
    """Of two hosts, every record once, in order, and no tarball."""
    spec = {
        "model": {"uri": "s3://cwe/model"},
        "data": {"uris": ["s3://cwe/questions.jsonl"]},
        "generation": {"maxNewTokens": 4},
        "topology": {"nodes": 2},
        "output": {"uri": "s3://cwe/out"},
        "backend": {"sagemaker": SAGEMAKER},
    }
    job = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "InferenceJob", "metadata": {"name": "cwe"}, "spec": spec}
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job))

    code, said = workplace.zerotune("run", str(file))

    assert code == 0, said
    output = output_of(bucket)
    parts = [output[name] for name in sorted(output) if name.startswith("part-")]
    records = [json.loads(line) for part in parts for line in part.splitlines()]
    questions = [json.loads(line) for line in (material / "questions.jsonl").open()]
    assert [record["id"] for record in records] == [question["id"] for question in questions]
    assert not any("error" in record for record in records)
    assert not [name for name in output if name.endswith((".tar", ".tar.gz"))]
    assert [job.status for job in aws.jobs.values()] == ["Completed"]


def test_r10_rows_that_a_command_prepares_in_the_store_are_trained_on(
    aws: SageMakerStandIn, bucket: Any, workplace: Workplace, tmp_path: Path
) -> None:
    file = manifest(tmp_path, sagemaker=SAGEMAKER)
    code, said = workplace.zerotune("data", "prepare", str(file), "s3://cwe/rows", "--first", "10")
    assert code == 0, said
    assert [item.key for item in bucket.objects.filter(Prefix="rows/")]

    data = {"train": {"uris": ["s3://cwe/rows"]}, "maxLength": 64}
    code, said = workplace.zerotune("run", str(changed(file, data=data)))

    assert code == 0, said
    assert json.loads(output_of(bucket)["results.json"])
    assert [job.status for job in aws.jobs.values()][-1] == "Completed", said
