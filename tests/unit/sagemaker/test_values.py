"""Values of `backend.sagemaker` that cannot work are rejected before a training job is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sagemaker.jobs import ROLE, sagemaker_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import InvalidManifestError, parse_job
from zerotune_operator.backends.check import check
from zerotune_operator.backends.registry import Target

REGISTRY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
DIGEST = f"sha256:{'a' * 64}"


def said(job: Job) -> str:
    with pytest.raises(InvalidManifestError) as caught:
        check(job, Target.SAGEMAKER)
    return str(caught.value)


def with_output(uri: str, **sagemaker: Any) -> Job:
    given = sagemaker_job(**sagemaker).model_dump(mode="json", by_alias=True, exclude_unset=True)
    given["spec"]["output"] = {"uri": uri}
    return parse_job(given)


def with_topology(instance: str, **topology: Any) -> Job:
    given = sagemaker_job(instanceType=instance).model_dump(mode="json", by_alias=True, exclude_unset=True)
    given["spec"]["topology"] = topology
    return parse_job(given)


@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
@pytest.mark.parametrize(
    ("sagemaker", "place", "message"),
    [
        ({"instanceType": "ml.m5.7xlarge"}, "instanceType", "no such instance type: did you mean ml.m5"),
        ({"instanceTypes": ["ml.m5.xlarge", "ml.zz9.xlarge"]}, "instanceTypes[1]", "no such instance type: "),
        ({"instanceType": "ml.trn1.32xlarge"}, "instanceType", "AWS Trainium or Inferentia"),
        ({"instanceType": "ml.inf2.xlarge"}, "instanceType", "PyTorch for Neuron"),
        ({"image": "zerotune/trainer:1"}, "image", "SageMaker takes images of ECR"),
        ({"image": f"{REGISTRY}/zerotune"}, "image", "/NAME:TAG, or NAME@sha256:DIGEST"),
        ({"image": f"{REGISTRY[1:]}/z:1"}, "image", "an AWS account number has 12 digits, and '23456789012' is none. "),
        ({"image": f"{REGISTRY}/z:1", "region": "us-east-1"}, "image", "is in eu-west-1, and backend.sagemaker.region"),
        ({"roleArn": ROLE, "region": "cn-north-1"}, "roleArn", "roles of cn-north-1 are of the partition aws-cn"),
        ({"roleArn": ROLE, "region": "us-gov-west-1"}, "roleArn", "begins with arn:aws-us-gov:iam::"),
        ({"metricDefinitions": {"loss": "loss=([0-9.+)"}}, "metricDefinitions.loss", "it is no regular expression"),
        ({"metricDefinitions": {"loss": "loss=[0-9.]+"}}, "metricDefinitions.loss", "it has no group"),
        ({"environment": {"RANK": "1"}}, "environment.RANK", "is set by the launcher"),
        ({"environment": {"MASTER_ADDR": "a"}}, "environment.MASTER_ADDR", "is set by the launcher"),
        ({"environment": {"HF_TOKEN": "x"}}, "environment.HF_TOKEN", "a model of the Hub that needs a token"),
        ({"environment": {"WANDB_API_KEY": "x"}}, "environment.WANDB_API_KEY", "is the name of a secret"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": "x"}}, "environment.AWS_SECRET_ACCESS_KEY", "the execution role"),
        ({"environment": {"AWS_SESSION_TOKEN": "x"}}, "environment.AWS_SESSION_TOKEN", "is the name of a secret"),
        ({"environment": {"db_password": "x"}}, "environment.db_password", "reads its environment"),
        ({"environment": {"AWS_ACCESS_KEY_ID": "x"}}, "environment.AWS_ACCESS_KEY_ID", "is the name of a secret"),
    ],
)
def test_what_cannot_work_is_rejected_with_the_reason(
    kind: str, sagemaker: dict[str, Any], place: str, message: str
) -> None:
    complaint = said(sagemaker_job(kind, **sagemaker))
    assert f"spec.backend.sagemaker.{place} is " in complaint
    assert message in complaint


SECRETS = {
    "https://user:pass@host/x": "a URL with a password",
    "-----BEGIN PRIVATE KEY-----": "a private key",
}
"""The other shapes are those of test_secret_values."""


@pytest.mark.parametrize("field", ["environment", "tags"])
@pytest.mark.parametrize("value", SECRETS)
def test_a_value_that_looks_like_a_secret_is_rejected_and_not_repeated(value: str, field: str) -> None:
    """D3."""
    complaint = said(sagemaker_job(**{field: {"SERVER": value}}))
    assert f"{field}.SERVER has a value that looks like a secret ({SECRETS[value]}), and everyone who may" in complaint
    assert value not in complaint


@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
def test_no_other_text_that_aws_shows_may_be_a_secret(kind: str) -> None:
    complaint = said(sagemaker_job(kind, tags={"HF_TOKEN": "x"}))
    assert "tags.HF_TOKEN is the name of a secret" in complaint and "list its tags" in complaint
    key = f"AKIA{'A' * 16}"
    for field, values in (("metricDefinitions", {"loss": f"{key}=(.*)"}), ("experiment", {"runName": key})):
        complaint = said(sagemaker_job(kind, **{field: values}))
        assert f"{field}.{next(iter(values))} has a value that looks like a secret" in complaint
        assert key not in complaint


def test_texts_that_are_no_secrets_are_taken() -> None:
    texts = {"A": "-----BEGIN CERTIFICATE-----", "B": "task-force", "C": "eyJ.a.b", "D": "s3://bbb/a:b"}
    check(sagemaker_job(environment=texts, tags=texts), Target.SAGEMAKER)


def test_the_files_of_an_attempt_are_no_input_and_no_output() -> None:
    folder = "s3://bbb/r/.sagemaker/tune-a0/job"
    channels = [{"channelName": "base", "s3Uri": folder}]
    for job, place in (
        (with_output(folder), "output.uri"),
        (sagemaker_job(channels=channels), "backend.sagemaker.channels[0].s3Uri"),
    ):
        assert f"spec.{place} is {folder!r}: in .sagemaker are the files by which an attempt runs" in said(job)


@pytest.mark.parametrize(
    "sagemaker",
    [
        {"image": f"{REGISTRY}/a/b:1.0", "region": "eu-west-1", "roleArn": ROLE},
        {"image": f"{REGISTRY}/a/b@{DIGEST}"},
        {
            "image": "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/a:1",
            "roleArn": "arn:aws-cn:iam::123456789012:role/r",
        },
        {"environment": {"TOKENIZERS_PARALLELISM": "false", "NCCL_DEBUG": "INFO", "AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}},
        {"metricDefinitions": {"loss": "loss=([0-9.]+)"}},
    ],
)
def test_what_may_work_is_accepted(sagemaker: dict[str, Any]) -> None:
    check(sagemaker_job(**sagemaker), Target.SAGEMAKER)


def test_an_instance_type_that_is_newer_is_taken_where_the_spec_says_what_it_has() -> None:
    check(with_topology("ml.m99.xlarge", memory="64Gi"), Target.SAGEMAKER)
    gpus = {"gpusPerNode": 8, "memory": "2Ti"}
    check(with_topology("ml.p99.48xlarge", accelerator={"memory": "300Gi"}, **gpus), Target.SAGEMAKER)
    assert "topology.accelerator.memory say what it has" in said(with_topology("ml.p99.48xlarge", **gpus))


def test_an_output_that_leaves_no_room_for_the_folder_of_an_attempt_is_rejected() -> None:
    complaint = said(with_output(f"s3://bbb/{'p' * 1000}"))
    assert "spec.output.uri is too long" in complaint
    assert "SageMaker takes URIs below 1024" in complaint
