"""SageMaker and S3 on this machine."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from tests.unit.sagemaker.account import Account
from zerotune_devtools.harness.s3 import s3_server
from zerotune_devtools.sagemaker.server import SageMakerStandIn

VARIABLES = {
    "AWS_ACCESS_KEY_ID": "AccessKeyId",
    "AWS_SECRET_ACCESS_KEY": "SecretAccessKey",
    "AWS_SESSION_TOKEN": "SessionToken",
}
"""Of the environment, and what they are called where a role was assumed."""


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("moto") / "log") as endpoint:
        yield endpoint


@pytest.fixture
def assumed_role(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Have the credentials be those of a role that a service may assume; makes and returns the role."""
    for service in ("IAM", "STS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", s3_endpoint)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def assume(service: str) -> str:
        statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        name = f"notebook-{secrets.token_hex(4)}"  # Other tests have the same server.
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        role = boto3.client("iam").create_role(RoleName=name, Path="/service-role/", AssumeRolePolicyDocument=trust)
        arn = str(role["Role"]["Arn"])
        keys = boto3.client("sts").assume_role(RoleArn=arn, RoleSessionName="notebook")["Credentials"]
        for variable, key in VARIABLES.items():
            monkeypatch.setenv(variable, keys[key])
        return arn

    return assume


@pytest.fixture
def account(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """The stand-in, whose hosts run a command of the shell, found by the variables that boto3 reads."""
    with SageMakerStandIn(tmp_path, command=("sh", "-c", "trap 'exit 143' TERM; sleep 0.3 & wait $!")) as stand_in:
        variables = {
            "AWS_ENDPOINT_URL_S3": s3_endpoint,
            "AWS_ENDPOINT_URL_SAGEMAKER": stand_in.endpoint,
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": stand_in.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",  # Every fault is to reach zerotune.
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        results = boto3.resource("s3").Bucket("results")
        results.create()
        results.objects.all().delete()
        yield Account(stand_in)
