"""`backend.sagemaker.channels`: folders that SageMaker gives the container, which URIs of the job name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.unit.kubernetes.rendering import EXAMPLES
from tests.unit.sagemaker.account import Account
from tests.unit.sagemaker.jobs import plan, sagemaker_job, training_job
from zerotune_devtools.sagemaker.service_model import problems_of
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import InvalidManifestError, load_jobs, parse_job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.check import check
from zerotune_operator.backends.registry import BACKENDS, Target
from zerotune_operator.backends.sagemaker.channels import source_uri
from zerotune_operator.backends.sagemaker.layout import job_name, sagemaker_of
from zerotune_operator.backends.sagemaker.requirements import require_sagemaker
from zerotune_trainer.config import TrainConfig

KINDS = ("FineTuneJob", "InferenceJob")
DATA = "/opt/ml/input/data"
CORPUS = {"channelName": "corpus", "s3Uri": "s3://corpus/all", "inputMode": "FastFile"}
BASE = {"channelName": "base", "s3Uri": "s3://base-models"}
SHARED = {
    "channelName": "shared",
    "fileSystemDataSource": {
        "fileSystemId": "fs-0123456789abcdef0",
        "fileSystemType": "FSxLustre",
        "directoryPath": "/fsx/corpus",
    },
}
VPC = {"subnets": ["subnet-1"], "securityGroupIds": ["sg-1"]}


def job_with(
    *channels: dict[str, Any],
    kind: str = "FineTuneJob",
    model: str = "s3://models/m",
    data: str = "s3://ddd/d.jsonl",
    output: str = "s3://results/r",
) -> Job:
    job = sagemaker_job(kind, channels=list(channels), **VPC)
    given = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    records = {"uris": [data]}
    given["spec"] |= {"model": {"uri": model}, "output": {"uri": output}}
    given["spec"]["data"] = records if kind == "InferenceJob" else {"train": records}
    return parse_job(given)


def problems(job: Job) -> str:
    with pytest.raises(InvalidManifestError) as caught:
        require_sagemaker(job)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_request_has_the_channels_besides_our_own(kind: str) -> None:
    made = training_job(job_with(CORPUS, SHARED, kind=kind, data=f"file://{DATA}/shared/a.jsonl"))

    assert problems_of("CreateTrainingJob", made.request) == []
    own, corpus, shared = made.request["InputDataConfig"]
    assert own["ChannelName"] == "zerotune"
    assert (corpus["ChannelName"], corpus["InputMode"]) == ("corpus", "FastFile")
    assert corpus["DataSource"]["S3DataSource"]["S3Uri"] == "s3://corpus/all/", "a folder, not what begins like it"
    assert shared == {
        "ChannelName": "shared",
        "DataSource": {
            "FileSystemDataSource": {
                "FileSystemId": "fs-0123456789abcdef0",
                "FileSystemType": "FSxLustre",
                "DirectoryPath": "/fsx/corpus",
                "FileSystemAccessMode": "ro",
            }
        },
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", [f"{DATA}/other/a.jsonl", f"{DATA}/corpus/../other/a", f"{DATA}/corpus2/a", "/data/a"])
def test_a_file_on_no_channel_is_rejected_with_the_channels_there_are(kind: str, path: str) -> None:
    said = problems(job_with(CORPUS, kind=kind, data=f"file://{path}"))
    assert f"is 'file://{path}': the container has files of channels alone" in said
    assert "backend.sagemaker.channels has corpus: add a channel, or use s3://" in said


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_on_a_file_system_is_rejected_as_nobody_can_plan_it(kind: str) -> None:
    said = problems(job_with(SHARED, kind=kind, model=f"file://{DATA}/shared/llama"))
    assert "the model's config.json, which nobody can read on a file system before the job runs" in said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", ["s3://corpus/all/out", "s3://corpus", "s3://corpus/all/"])
def test_a_channel_that_overlaps_the_output_is_rejected(kind: str, output: str) -> None:
    assert "what the job writes would come back as input" in problems(job_with(CORPUS, kind=kind, output=output))
    require_sagemaker(job_with(CORPUS, kind=kind, output="s3://corpus/all2"))


def test_a_model_on_a_channel_is_read_there_and_known_by_its_name_on_s3() -> None:
    job = job_with(BASE, model=f"file://{DATA}/base/org/llama/")
    uri = BACKENDS[Target.SAGEMAKER].model_uri(job)
    config = plan(job).config

    assert uri == "s3://base-models/org/llama"
    assert BACKENDS[Target.SAGEMAKER].layout(job, uri).model_uri == f"file://{DATA}/base/org/llama/"
    assert isinstance(config, TrainConfig)
    assert (config.model_uri, config.model_source) == (f"file://{DATA}/base/org/llama/", uri)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("base", "s3://base-models"),
        ("base/", "s3://base-models"),
        ("base//org/./llama", "s3://base-models/org/llama"),
        ("corpus/m", "s3://corpus/all/m"),
        ("shared/m", f"file://{DATA}/shared/m"),
    ],
)
def test_what_a_uri_on_a_channel_names_on_s3(path: str, source: str) -> None:
    sagemaker = sagemaker_of(job_with(BASE, CORPUS, SHARED))
    assert source_uri(sagemaker, f"file://{DATA}/{path}") == source
    assert source_uri(sagemaker, "s3://models/m/") == "s3://models/m/"


def test_the_plan_says_what_each_channel_is() -> None:
    check(job := job_with(BASE, CORPUS, SHARED), Target.SAGEMAKER)
    assert BACKENDS[Target.SAGEMAKER].facts(job)[1:4] == [
        ("channel base", f"s3://base-models (File: copied before the ranks start), at {DATA}/base"),
        ("channel corpus", f"s3://corpus/all (FastFile: read as ranks need it), at {DATA}/corpus"),
        ("channel shared", f"/fsx/corpus of fs-0123456789abcdef0 (FSxLustre, ro), at {DATA}/shared"),
    ]


def test_the_example_makes_a_valid_request() -> None:
    (job,) = load_jobs(EXAMPLES / "sagemaker-channels.yaml")
    made = training_job(job)
    assert problems_of("CreateTrainingJob", made.request) == []
    assert [each["ChannelName"] for each in made.request["InputDataConfig"]] == ["zerotune", "base", "corpus"]


def test_the_service_rejects_channels_that_the_model_forbids_in_words() -> None:
    request = training_job(job_with(CORPUS, SHARED)).request
    _, corpus, shared = request["InputDataConfig"]
    without_vpc = {name: value for name, value in request.items() if name != "VpcConfig"}
    wrong = {
        "a name of its own": request | {"InputDataConfig": [corpus, corpus]},
        "exactly one data source": request
        | {"InputDataConfig": [corpus | {"DataSource": corpus["DataSource"] | shared["DataSource"]}]},
        "has input mode File": request | {"InputDataConfig": [shared | {"InputMode": "FastFile"}]},
        "needs VpcConfig": without_vpc,
    }
    for piece, each in wrong.items():
        assert piece in "; ".join(problems_of("CreateTrainingJob", each)), piece


def _hosts_see(account: Account, job: Job, command: str) -> JobStatus:
    account.stand_in.command = ("sh", "-c", command)

    async def run() -> JobStatus:
        await account.leave_result(job)
        return await account.drive(job, lambda status: status.phase in ("Succeeded", "Failed", "Restarting"))

    return asyncio.run(run())


@pytest.mark.slow
def test_the_container_finds_its_channels_read_only_where_they_are(account: Account, tmp_path: Path) -> None:
    corpus = boto3.resource("s3").Bucket("corpus")
    corpus.create()
    corpus.put_object(Key="all/deep/a.jsonl", Body=b"one")
    corpus.put_object(Key="all-others/a.jsonl", Body=b"two")
    (tmp_path / "fs" / "fsx" / "corpus").mkdir(parents=True)
    (tmp_path / "fs" / "fsx" / "corpus" / "b.jsonl").write_text("three")
    account.stand_in.file_systems["fs-0123456789abcdef0"] = tmp_path / "fs"
    checks = [
        f'[ "$(cat {DATA}/corpus/deep/a.jsonl)" = one ]',
        f'[ "$(ls {DATA}/corpus)" = deep ]',
        f'[ "$(cat {DATA}/shared/b.jsonl)" = three ]',
        f"! touch {DATA}/shared/c",
    ]
    status = _hosts_see(account, job_with(CORPUS, SHARED), " && ".join(checks))
    assert status.phase == "Succeeded", status.root_cause


@pytest.mark.slow
def test_a_file_system_that_is_not_there_fails_the_job_with_its_name(account: Account) -> None:
    job = job_with(SHARED)
    status = _hosts_see(account, job, "true")
    assert account.stand_in.created[0] == job_name(job, 0)
    assert status.root_cause is not None
    assert "Unable to mount file system for channel shared" in status.root_cause.message
