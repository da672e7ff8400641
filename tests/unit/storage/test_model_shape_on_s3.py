"""The plan of a local job whose model is in a bucket: its config.json is read through the trainer's client."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from tests.unit.local.planning import plan_here
from zerotune_operator.api.load import parse_job
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.model_shape import model_shape, shape_of_file
from zerotune_trainer.errors import ConfigurationError, InputMissingError

pytestmark = pytest.mark.slow

MODEL = Path(__file__).parents[2] / "golden" / "plan" / "models" / "tiny-llama.json"


def _put(bucket: str, key: str, text: str) -> None:
    boto3.resource("s3").Bucket(bucket).put_object(Key=key, Body=text.encode())


def test_a_job_is_planned_from_a_model_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    _put(bucket, "model/config.json", MODEL.read_text())
    job = parse_job(
        {
            "apiVersion": "zerotune.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "cwe"},
            "spec": {
                "method": "cpt",
                "model": {"uri": f"s3://{bucket}/model/"},
                "data": {"train": {"uris": ["file:///data/a.jsonl"]}, "maxLength": 64},
            },
        }
    )
    home = Home(tmp_path)
    plan = plan_here(job, home.job("FineTuneJob", "cwe"), home, 0)
    assert plan.shape == shape_of_file(MODEL)
    assert json.loads(plan.artifacts()["config.json"])["model"]["uri"] == f"s3://{bucket}/model/"


def test_the_plan_for_a_cluster_reads_a_model_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    spec = {
        "method": "cpt",
        "model": {"uri": f"s3://{bucket}/model"},
        "data": {"train": {"uris": ["s3://data/a.jsonl"]}, "maxLength": 64},
        "output": {"uri": "s3://results/r"},
    }
    job = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "cwe"}, "spec": spec}
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = [Path(sys.executable).with_name("zerotune"), "plan", tmp_path / "job.json", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 66
    assert f"s3://{bucket}/model/config.json is not there" in done.stderr
    assert "or give the model's config.json: --model-config FILE" in done.stderr
    _put(bucket, "model/config.json", MODEL.read_text())
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["model"] == shape_of_file(MODEL).model_dump(by_alias=True)


def test_a_model_in_a_bucket_that_is_none(bucket: str) -> None:
    with pytest.raises(InputMissingError) as missing:
        model_shape(f"s3://{bucket}/nothing")
    assert f"s3://{bucket}/nothing/config.json" in missing.value.message
    _put(bucket, "list/config.json", "[]")
    with pytest.raises(ConfigurationError) as wrong:
        model_shape(f"s3://{bucket}/list")
    assert wrong.value.message == f"s3://{bucket}/list/config.json is not a JSON object"
