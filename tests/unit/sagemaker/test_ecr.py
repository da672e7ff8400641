"""`make push ECR=1` makes the repositories that are missing, and says what is wrong before anything is pushed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import boto3
import pytest

from tests.unit.sagemaker.jobs import sagemaker_job, training_job
from zerotune_devtools.checkout import ROOT
from zerotune_devtools.ecr import Registry, ensure_repositories, repositories_of
from zerotune_devtools.images.push import targets

NAME = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
def ecr(s3_endpoint: str, credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """moto's server has ECR too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", s3_endpoint)
    yield
    client = boto3.client("ecr", region_name="eu-west-1")
    for each in client.describe_repositories()["repositories"]:
        client.delete_repository(repositoryName=each["repositoryName"])


@pytest.mark.parametrize("name", [NAME, f"{NAME}/", f"{NAME}/team/a", NAME.replace("ecr.", "ecr-fips.")])
def test_a_registry_of_ecr_is_one_of_an_account_and_region(name: str) -> None:
    assert Registry.of(name) == ("123456789012", "eu-west-1")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("registry.example.com/team", "one of ECR is ACCOUNT.dkr.ecr.REGION.amazonaws.com"),
        ("123.dkr.ecr.eu-west-1.amazonaws.com", "one of ECR is ACCOUNT.dkr.ecr.REGION.amazonaws.com"),
        ("https://123456789012.dkr.ecr.eu-west-1.amazonaws.com", "correct it, or leave ECR out"),
        ("public.ecr.aws/zerotune", "one of ECR is ACCOUNT.dkr.ecr.REGION.amazonaws.com"),
        (NAME.replace("eu-west-1", "eu-west-9"), "the region 'eu-west-9', and ECR is in af-south-1, "),
    ],
)
def test_another_registry_or_region_is_rejected(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Registry.of(name)


def test_a_registry_in_china_is_one_too() -> None:
    assert Registry.of("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn").region == "cn-north-1"


def test_each_image_has_its_repository_below_the_registrys_path() -> None:
    images = targets(f"{NAME}/team/", ["zerotune.dev/trainer:0.1.0", "zerotune.dev/trainer:0.1.0-cuda"])
    assert next(iter(images.values())) == f"{NAME}/team/trainer:0.1.0"
    assert repositories_of(images.values()) == ["team/trainer"]


def test_make_push_makes_the_repositories_before_it_pushes() -> None:
    def commands(*given: str) -> list[str]:
        made = subprocess.run(
            ["make", "-n", "push", f"REGISTRY={NAME}", *given], cwd=ROOT, capture_output=True, text=True
        )
        return [line.rpartition("zerotune_devtools.")[2] for line in made.stdout.splitlines() if NAME in line]

    assert commands("ECR=1") == [f"ecr {NAME}", f"images.push {NAME}"]
    assert commands() == [f"images.push {NAME}"]


def test_r06_one_command_builds_makes_repositories_and_pushes() -> None:
    command = ["make", "-n", "images", "push", f"REGISTRY={NAME}", "ECR=1"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    places = [said.index(step) for step in ("images.build", "zerotune_devtools.ecr", "images.push")]
    assert places == sorted(places)


def test_d31_a_build_that_fails_pushes_nothing() -> None:
    command = ["make", "images", "push", f"REGISTRY={NAME}", "IN_DEVTOOLS=false"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode != 0
    assert "images.build" in made.stdout
    assert "images.push" not in made.stdout


def test_d31_an_image_may_be_named_by_its_digest() -> None:
    image = f"{NAME}/zerotune/sagemaker@sha256:{'a' * 64}"
    assert training_job(sagemaker_job(image=image)).request["AlgorithmSpecification"]["TrainingImage"] == image


@pytest.mark.slow
@pytest.mark.usefixtures("ecr")
def test_repositories_that_are_missing_are_made_once() -> None:
    """R06."""
    registry = Registry.of(NAME)
    assert ensure_repositories(registry, ["team/operator", "team/trainer"]) == ["team/operator", "team/trainer"]
    assert ensure_repositories(registry, ["team/sagemaker", "team/trainer"]) == ["team/sagemaker"]
    found = boto3.client("ecr", region_name="eu-west-1").describe_repositories()["repositories"]
    assert sorted(each["repositoryName"] for each in found) == ["team/operator", "team/sagemaker", "team/trainer"]


@pytest.mark.slow
def test_missing_credentials_are_an_error_that_says_where_they_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(ValueError, match="Unable to locate credentials") as caught:
        ensure_repositories(Registry.of(NAME), ["team/trainer"])
    assert "hint: AWS credentials are looked for as boto3 does" in str(caught.value)
    assert "ecr:CreateRepository in account 123456789012, region eu-west-1" in str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("credentials")
def test_an_endpoint_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ValueError, match="Could not connect to the endpoint URL"):
        ensure_repositories(Registry.of(NAME), ["team/trainer"])
