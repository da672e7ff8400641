"""SageMaker and S3 on this machine, a tiny model on S3, and `zerotune` as a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.trainer.local.conftest import material, workplace
from zerotune_devtools.harness.s3 import s3_server
from zerotune_devtools.sagemaker.server import SageMakerStandIn
from zerotune_trainer.storage import s3_client

__all__ = ["material", "workplace"]


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("moto") / "log") as endpoint:
        yield endpoint


@pytest.fixture
def aws(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMakerStandIn]:
    """The stand-in, found by the variables that boto3 reads."""
    with SageMakerStandIn(tmp_path / "instances") as stand_in:
        variables = {
            "AWS_ENDPOINT_URL_S3": s3_endpoint,
            "AWS_ENDPOINT_URL_SAGEMAKER": stand_in.endpoint,
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": stand_in.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        s3_client.forget_client()
        yield stand_in
    s3_client.forget_client()


@pytest.fixture
def bucket(aws: SageMakerStandIn, material: Path) -> Any:
    """A bucket with `model/` and `train.jsonl`, and nothing else."""
    made = boto3.resource("s3").Bucket("cwe")
    made.create()
    made.objects.all().delete()
    for path in sorted(material.rglob("*")):
        if path.is_file():
            made.upload_file(str(path), str(path.relative_to(material)))
    return made
