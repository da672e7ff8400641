"""What of a spec reaches the request of its training job, and what does not travel there."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sagemaker.clocked import Operator
from tests.unit.sagemaker.in_process import LIFE, Aws
from tests.unit.sagemaker.jobs import sagemaker_job, training_job
from zerotune_devtools.checkout import ROOT
from zerotune_devtools.sagemaker.service_model import problems_of
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import parse_job
from zerotune_operator.backends.sagemaker.layout import attempt_uri
from zerotune_trainer.config import RENDEZVOUS_FILE

KINDS = ("FineTuneJob", "InferenceJob")
DATA = "file:///opt/ml/input/data"
TEMPLATE = "<|im_start|>assistant says: 'a  b' \"c\" $(touch /tmp/x); `id` && rm -rf \\ #\n"


def changed(job: Job, **spec: Any) -> Job:
    """The job with other parts of its spec."""
    given = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return parse_job(given | {"spec": given["spec"] | spec})


@pytest.mark.parametrize("kind", KINDS)
def test_r02_instances_volume_and_prefix_are_those_of_the_spec(kind: str) -> None:
    sagemaker = {"instanceType": "ml.m5.2xlarge", "volumeSizeGb": 77, "jobNamePrefix": "team"}
    made = training_job(sagemaker_job(kind, nodes=3, **sagemaker))

    assert problems_of("CreateTrainingJob", made.request) == []
    assert made.request["ResourceConfig"] == {
        "InstanceType": "ml.m5.2xlarge",
        "InstanceCount": 3,
        "VolumeSizeInGB": 77,
    }
    assert made.request["TrainingJobName"] == made.name
    assert made.name.startswith("team-")


def test_r03_train_test_and_model_are_three_named_inputs() -> None:
    names = ("train", "test", "model")
    channels = [{"channelName": name, "s3Uri": f"s3://inputs/{name}"} for name in names]
    data = {
        name: {"uris": [f"{DATA}/{channel}/*.jsonl"]} for name, channel in (("train", "train"), ("validation", "test"))
    }
    made = training_job(changed(sagemaker_job(channels=channels), model={"uri": f"{DATA}/model/base"}, data=data))

    assert problems_of("CreateTrainingJob", made.request) == []
    _, *given = made.request["InputDataConfig"]
    sources = {each["ChannelName"]: each["DataSource"]["S3DataSource"]["S3Uri"] for each in given}
    assert sources == {name: f"s3://inputs/{name}/" for name in names}
    config = json.loads(made.files["config.json"])
    assert config["data"]["train"]["uris"] == [f"{DATA}/train/*.jsonl"]
    assert config["data"]["validation"]["uris"] == [f"{DATA}/test/*.jsonl"]
    assert config["model"]["uri"] == f"{DATA}/model/base"


@pytest.mark.parametrize("seconds", [None, 0, 900, 3600])
def test_r04_d32_a_warm_pool_is_kept_only_where_the_spec_says_so(seconds: int | None) -> None:
    made = training_job(sagemaker_job(**({} if seconds is None else {"keepAliveSeconds": seconds})))
    assert made.request["ResourceConfig"].get("KeepAlivePeriodInSeconds") == seconds
    assert problems_of("CreateTrainingJob", made.request) == []


def test_d32_spot_and_more_than_a_day_are_in_reach() -> None:
    weeks = 4 * 7 * 24 * 3600
    made = training_job(sagemaker_job(spot=True, maxRuntimeSeconds=weeks))
    assert made.request["EnableManagedSpotTraining"] is True
    assert made.request["StoppingCondition"]["MaxRuntimeInSeconds"] == weeks
    assert problems_of("CreateTrainingJob", made.request) == []


def test_d4_values_with_blanks_and_quotes_reach_the_ranks_unchanged() -> None:
    """And by no shell: neither the command nor the request has them, however long they are."""
    data = {"train": {"uris": ["s3://ddd/a b/d.jsonl"]}, "responseTemplate": TEMPLATE * 100, "loss": "assistant"}
    made = training_job(changed(sagemaker_job(), data=data))

    config = json.loads(made.files["config.json"])
    assert config["data"]["responseTemplate"] == TEMPLATE * 100
    assert config["data"]["train"]["uris"] == ["s3://ddd/a b/d.jsonl"]
    assert "HyperParameters" not in made.request
    assert "ContainerArguments" not in made.request["AlgorithmSpecification"]
    assert "im_start" not in json.dumps(made.request)


@pytest.mark.parametrize("kind", KINDS)
def test_d3_d29_each_attempt_has_a_secret_that_no_request_shows(tmp_path: Path, kind: str) -> None:
    aws = Aws(tmp_path, (*LIFE[:2], "Training", "Failed"))
    job = sagemaker_job(kind)
    operator = Operator(aws, [job])
    while len(aws.jobs) < 2:
        asyncio.run(operator.run(60))
    aws.close()

    places = [f"{attempt_uri(job, attempt)}/job/{RENDEZVOUS_FILE}" for attempt in (0, 1)]
    first, second = (aws.objects[place.removeprefix("s3://")].decode() for place in places)
    assert first != second
    shown = json.dumps([each.request for each in aws.jobs])
    for secret in (first, second):
        assert re.fullmatch("[0-9a-f]{64}", secret)
        assert secret not in shown
        assert secret not in operator.statuses[0].model_dump_json()


def test_d29_d30_the_image_adds_nothing_to_the_trainers_but_how_it_starts() -> None:
    """No key, no ssh, and no package, of whatever version: what has any is built from pinned requirements."""
    text = (ROOT / "images" / "sagemaker" / "Dockerfile").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    assert {line.split()[0] for line in lines} == {"ARG", "FROM", "LABEL", "USER", "ENTRYPOINT"}
    assert [line for line in lines if line.startswith("FROM")] == ["FROM ${TRAINER}"]
    assert "ssh" not in (ROOT / "images" / "trainer" / "Dockerfile").read_text().lower()
