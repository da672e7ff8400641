"""`zerotune run` on SageMaker: real launchers, ranks and training on the hosts of the stand-in."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from zerotune_trainer.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from tests.trainer.local.conftest import Workplace
    from zerotune_devtools.sagemaker.server import SageMakerStandIn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROLE = "arn:aws:iam::123456789012:role/train"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/zerotune/sagemaker:0.1.0"
SAGEMAKER = {"instanceType": "ml.m5.xlarge", "roleArn": ROLE, "image": IMAGE}

DISTURBED: Any = {"steps": 120, "save_steps": 20}
"""Of a job that takes long enough to be disturbed."""
STOPPED = 143
"""Exit code of a run that was stopped."""

OF_THE_RUN = {
    *(".zerotune-job.json", "manifest.json", "topology.json", "README.md", "report.html"),
    *("results.json", "metrics.jsonl", "trainer_state.json"),
}
"""Files with the job's uid, with times, or with the names of hosts."""


def manifest(folder: Path, steps: int = 4, save_steps: int = 2, **backend: Any) -> Path:
    spec = {
        "method": "cpt",
        "model": {"uri": "s3://cwe/model"},
        "data": {"train": {"uris": ["s3://cwe/train.jsonl"]}, "maxLength": 64},
        "training": {"globalBatchSize": 4, "maxSteps": steps, "learningRate": 1e-3, "loggingSteps": 1},
        "zero": {"stage": 2},
        "checkpoint": {"saveSteps": save_steps},
        "topology": {"nodes": 2},
        "output": {"uri": "s3://cwe/out"},
        "backend": backend,
    }
    job = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "cwe"}, "spec": spec}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def output_of(bucket: Any) -> dict[str, bytes]:
    found = {item.key.removeprefix("out/"): item for item in bucket.objects.filter(Prefix="out/")}
    return {name: item.get()["Body"].read() for name, item in found.items() if not name.startswith(".sagemaker/")}


def test_a_job_gives_the_same_output_as_on_this_machine(
    aws: SageMakerStandIn, bucket: Any, workplace: Workplace, tmp_path: Path
) -> None:
    """R02, R44: every file of it, and no tarball."""
    code, said = workplace.zerotune("run", str(manifest(tmp_path)))
    assert code == 0, said
    local = output_of(bucket)
    bucket.objects.filter(Prefix="out/").delete()

    code, said = workplace.zerotune("run", str(manifest(tmp_path, sagemaker=SAGEMAKER)), "--fresh")

    assert code == 0, said
    assert "cwe: succeeded; the output is complete: s3://cwe/out" in said
    remote = output_of(bucket)
    assert sorted(remote) == sorted(local)
    others = {name for name in local if name.rpartition("/")[2] not in OF_THE_RUN}
    assert {"model.safetensors", "tokenizer.json"} <= others
    assert [name for name in sorted(others) if local[name] != remote[name]] == []
    assert _losses(remote) == _losses(local)
    assert len(aws.created) == 1


def test_a_job_trains_from_channels_of_s3_and_of_a_file_system(
    aws: SageMakerStandIn, bucket: Any, material: Path, workplace: Workplace, tmp_path: Path
) -> None:
    """R03."""
    folder, channels = "file:///opt/ml/input/data", tmp_path / "fs" / "fsx" / "corpus"
    channels.mkdir(parents=True)
    shutil.copyfile(material / "train.jsonl", channels / "train.jsonl")
    aws.file_systems["fs-0123456789abcdef0"] = tmp_path / "fs"
    corpus = {"fileSystemId": "fs-0123456789abcdef0", "fileSystemType": "FSxLustre", "directoryPath": "/fsx/corpus"}
    used = {
        "channels": [
            {"channelName": "base", "s3Uri": "s3://cwe/model", "inputMode": "FastFile"},
            {"channelName": "corpus", "fileSystemDataSource": corpus},
        ],
        "subnets": ["subnet-1"],
        "securityGroupIds": ["sg-1"],
    }
    file = manifest(tmp_path, sagemaker=SAGEMAKER | used)
    job = yaml.safe_load(file.read_text())
    job["spec"]["model"]["uri"] = f"{folder}/base"
    job["spec"]["data"]["train"]["uris"] = [f"{folder}/corpus/*.jsonl"]
    file.write_text(yaml.safe_dump(job))

    code, said = workplace.zerotune("run", str(file))

    assert code == 0, said
    assert [step for step, _ in _losses(output_of(bucket))] == [1, 2, 3, 4]


def test_a_job_that_is_stopped_left_alone_and_interrupted_trains_as_an_undisturbed_one(
    aws: SageMakerStandIn, bucket: Any, workplace: Workplace, tmp_path: Path
) -> None:
    """D20, D32: Its process is killed, too, and its spot instances are taken back."""
    code, said = workplace.zerotune("run", str(manifest(tmp_path, **DISTURBED)))
    assert code == 0, said
    undisturbed = output_of(bucket)
    bucket.objects.filter(Prefix="out/").delete()
    shutil.rmtree(workplace.home.path)
    file = manifest(tmp_path, **DISTURBED, sagemaker=SAGEMAKER | {"spot": True})
    run = workplace.start(file, "cwe")
    run.wait_until(lambda _: "checkpoint-20" in _whole_checkpoints(bucket), 200)
    code, said = workplace.zerotune("stop", "cwe")
    assert code == 0, said
    assert run.process.wait(200) == STOPPED

    run = workplace.start(file, "cwe")
    run.wait_until(lambda _: len(aws.created) == 2 and "checkpoint-60" in _whole_checkpoints(bucket), 200)
    run.process.kill()
    run.process.wait()
    assert _shown(workplace)["phase"] == "Running"
    aws.jobs[aws.created[1]].interrupt()
    code, said = workplace.zerotune("run", str(file))

    assert code == 0, said
    status = _shown(workplace)
    assert (status["phase"], status.get("restarts", 0), len(status["attempts"])) == ("Succeeded", 0, 2)
    assert status["attempts"][1]["firstStep"] >= 60, "it went on from its checkpoint"
    assert len(aws.created) == 2
    assert "all ranks of this host are done" in workplace.zerotune("logs", "cwe", "--node", "1")[1]
    disturbed = output_of(bucket)
    assert _losses(disturbed) == _losses(undisturbed)
    assert disturbed["model.safetensors"] == undisturbed["model.safetensors"]


def test_an_attempt_on_another_instance_type_goes_on_where_the_first_one_ended(
    aws: SageMakerStandIn, bucket: Any, workplace: Workplace, tmp_path: Path
) -> None:
    sagemaker = SAGEMAKER | {"instanceTypes": ["ml.m5.xlarge", "ml.m5.4xlarge", "ml.g5.xlarge"]}
    del sagemaker["instanceType"]
    run = workplace.start(manifest(tmp_path, steps=240, save_steps=20, sagemaker=sagemaker), "cwe")
    run.wait_until(lambda _: bool(_whole_checkpoints(bucket)), 200)
    run.wait_until(lambda _: _shown(workplace)["plan"].get("instanceType") == "ml.m5.xlarge", 60)

    aws.faults.without_capacity.add("ml.m5.xlarge")
    for host in aws.jobs[aws.created[0]].hosts:
        host.signal(signal.SIGKILL)

    assert run.process.wait(300) == 0
    status = _shown(workplace)
    assert (status["phase"], status["plan"]["instanceType"]) == ("Succeeded", "ml.m5.4xlarge")
    assert list(status["plan"]["leftOut"]) == ["ml.g5.xlarge"]
    assert status["attempts"][1]["firstStep"] > 0, "it went on from the checkpoint of the first"
    assert "Instance type:  ml.m5.4xlarge" in workplace.zerotune("status", "cwe")[1]
    config = json.loads(_channel_file(bucket, aws.created[1], "ml.m5.4xlarge/config.json"))
    assert config["launch"]["threadsPerRank"] == 8, "that of 16 vCPUs"


def _whole_checkpoints(bucket: Any) -> set[str]:
    """Those with a manifest."""
    keys = (item.key for item in bucket.objects.filter(Prefix="out/checkpoints/"))
    return {key.split("/")[2] for key in keys if key.endswith(f"/{MANIFEST_NAME}")}


def _channel_file(bucket: Any, name: str, file: str) -> bytes:
    content: bytes = bucket.Object(f"out/.sagemaker/{name}/job/{file}").get()["Body"].read()
    return content


def _losses(output: dict[str, bytes]) -> list[tuple[int, float]]:
    records = [json.loads(line) for line in output["metrics.jsonl"].splitlines()]
    losses = [(record["step"], record["loss"]) for record in records if "loss" in record]
    assert losses
    return losses


def _shown(workplace: Workplace) -> dict[str, Any]:
    code, said = workplace.zerotune("status", "cwe", "-o", "json")
    assert code == 0, said
    status: dict[str, Any] = json.loads(said)["status"]
    return status
