"""What `CreateTrainingJob` limits is taken at its limit, and rejected one above it, by the field's name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.unit.sagemaker.jobs import SETTINGS, sagemaker_job, training_job
from zerotune_devtools.sagemaker.service_model import problems_of
from zerotune_operator.api.load import InvalidManifestError
from zerotune_operator.backends.sagemaker.requirements import require_sagemaker

GROUP = "(x)"
VPC = {"subnets": ["subnet-1"], "securityGroupIds": ["sg-1"]}
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/"
ROLE = "arn:aws:iam::123456789012:role/"
PLAN = "arn:aws:sagemaker:us-east-1:123456789012:training-plan/"
TYPES = ["ml.c5.9xlarge", *(f"ml.m5.{size}xlarge" for size in ("", 2, 4, 12, 24))]


def entries(count: int, value: str = "1") -> dict[str, str]:
    return {f"N{number}": value for number in range(count)}


def names(count: int) -> list[str]:
    return [f"id-{number}" for number in range(count)]


def padded(text: str, length: int) -> str:
    return text + "a" * (length - len(text))


def channel(name: str = "c", uri: str = "s3://corpus/c") -> dict[str, Any]:
    return {"channels": [{"channelName": name, "s3Uri": uri}]}


def channels(count: int) -> dict[str, Any]:
    found = [{"channelName": f"c{number}", "s3Uri": f"s3://corpus/c{number}"} for number in range(count)]
    return {"channels": found}


def file_system(path: str = "/fsx", number: str = "0123456789abcdef0") -> dict[str, Any]:
    source = {"fileSystemId": f"fs-{number}", "fileSystemType": "FSxLustre", "directoryPath": path}
    return VPC | {"channels": [{"channelName": "c", "fileSystemDataSource": source}]}


LIMITS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("environment", {"environment": entries(64)}, {"environment": entries(65)}),
    ("environment.A", {"environment": {"A": "x" * 512}}, {"environment": {"A": "x" * 513}}),
    ("environment.AAA", {"environment": {"A" * 512: "1"}}, {"environment": {"A" * 513: "1"}}),
    ("tags", {"tags": entries(40)}, {"tags": entries(41)}),
    ("tags.A", {"tags": {"A": "x" * 256}}, {"tags": {"A": "x" * 257}}),
    ("tags.AAA", {"tags": {"A" * 128: "x"}}, {"tags": {"A" * 129: "x"}}),
    ("metricDefinitions", {"metricDefinitions": entries(40, GROUP)}, {"metricDefinitions": entries(41, GROUP)}),
    (
        "metricDefinitions.A",
        {"metricDefinitions": {"A": padded(GROUP, 500)}},
        {"metricDefinitions": {"A": padded(GROUP, 501)}},
    ),
    ("metricDefinitions.AAA", {"metricDefinitions": {"A" * 255: GROUP}}, {"metricDefinitions": {"A" * 256: GROUP}}),
    ("channels", channels(19), channels(20)),
    ("channels[0].channelName", channel("c" * 64), channel("c" * 65)),
    ("channels[0].s3Uri", channel(uri=padded("s3://corpus/", 1023)), channel(uri=padded("s3://corpus/", 1024))),
    (
        "channels[0].fileSystemDataSource.directoryPath",
        file_system(padded("/", 4096)),
        file_system(padded("/", 4097)),
    ),
    (
        "channels[0].fileSystemDataSource.fileSystemId",
        file_system(number="0" * 18),
        file_system(number="0" * 19),
    ),
    ("subnets", VPC | {"subnets": names(16)}, VPC | {"subnets": names(17)}),
    ("subnets[0]", VPC | {"subnets": ["s" * 32]}, VPC | {"subnets": ["s" * 33]}),
    ("securityGroupIds", VPC | {"securityGroupIds": names(5)}, VPC | {"securityGroupIds": names(6)}),
    ("instanceTypes", {"instanceTypes": TYPES[:5]}, {"instanceTypes": TYPES}),
    ("keepAliveSeconds", {"keepAliveSeconds": 21600}, {"keepAliveSeconds": 21601}),
    ("keepAliveSeconds", {"keepAliveSeconds": 0}, {"keepAliveSeconds": -1}),
    ("maxRuntimeSeconds", {"maxRuntimeSeconds": 2419200}, {"maxRuntimeSeconds": 2419201}),
    ("maxRuntimeSeconds", {"maxRuntimeSeconds": 1}, {"maxRuntimeSeconds": 0}),
    ("maxPendingSeconds", {"maxPendingSeconds": 2419200}, {"maxPendingSeconds": 2419201}),
    ("maxPendingSeconds", {"maxPendingSeconds": 1800}, {"maxPendingSeconds": 1799}),
    ("retryAttempts", {"retryAttempts": 30}, {"retryAttempts": 31}),
    ("retryAttempts", {"retryAttempts": 1}, {"retryAttempts": 0}),
    ("volumeSizeGb", {"volumeSizeGb": 16384}, {"volumeSizeGb": 16385}),
    ("volumeSizeGb", {"volumeSizeGb": 1}, {"volumeSizeGb": 0}),
    ("jobNamePrefix", {"jobNamePrefix": "a" * 40}, {"jobNamePrefix": "a" * 41}),
    ("image", {"image": padded(IMAGE, 253) + ":1"}, {"image": padded(IMAGE, 254) + ":1"}),
    ("roleArn", {"roleArn": padded(ROLE, 2048)}, {"roleArn": padded(ROLE, 2049)}),
    ("volumeKmsKeyId", {"volumeKmsKeyId": "k" * 2048}, {"volumeKmsKeyId": "k" * 2049}),
    ("outputKmsKeyId", {"outputKmsKeyId": "k" * 2048}, {"outputKmsKeyId": "k" * 2049}),
    ("trainingPlanArn", {"trainingPlanArn": padded(PLAN, 2048)}, {"trainingPlanArn": padded(PLAN, 2049)}),
    (
        "experiment.experimentName",
        {"experiment": {"experimentName": "e" * 120}},
        {"experiment": {"experimentName": "e" * 121}},
    ),
]


@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
@pytest.mark.parametrize(("field", "most", "more"), LIMITS, ids=[f"{n}-{each[0]}" for n, each in enumerate(LIMITS)])
def test_a_limit_is_taken_and_one_above_it_is_rejected(
    kind: str, field: str, most: dict[str, Any], more: dict[str, Any]
) -> None:
    settings = SETTINGS.model_copy(update={"roles": ("*",)})
    request = training_job(sagemaker_job(kind, **most), settings=settings).request
    assert problems_of("CreateTrainingJob", request) == []
    with pytest.raises(InvalidManifestError, match=re.escape(f"spec.backend.sagemaker.{field}")):
        require_sagemaker(sagemaker_job(kind, **more))


@pytest.mark.parametrize("kind", ["FineTuneJob", "InferenceJob"])
@pytest.mark.parametrize("more", [{}, {"jobNamePrefix": "p" * 40}], ids=["of the job", "prefix"])
def test_the_longest_name_of_a_job_makes_a_name_of_at_most_63_characters(kind: str, more: dict[str, Any]) -> None:
    made = training_job(sagemaker_job(kind, "a" * 52, **more), 9999)
    assert problems_of("CreateTrainingJob", made.request) == []
    assert len(made.name) <= 63
    with pytest.raises(InvalidManifestError, match=r"metadata\.name"):
        sagemaker_job(kind, "a" * 53)
