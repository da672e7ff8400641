"""What people write in place of a value or a field, and the remedy that each is answered with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from zerotune_operator.api.load import InvalidManifestError, load_jobs, parse_job
from zerotune_operator.api.remedies import remedy_for_name

TRAINING: dict[str, Any] = {
    "apiVersion": "zerotune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "job"},
    "spec": {"method": "sft", "model": {"uri": "hf://a/b"}, "data": {"train": {"uris": ["s3://aaa/b.jsonl"]}}},
}


def rejection(path: str, value: Any) -> str:
    """What is wrong with a job in which one field is this."""
    manifest = copy.deepcopy(TRAINING)
    part = manifest
    *parents, name = path.split(".")
    for parent in parents:
        part = part.setdefault(parent, {})
    part[name] = value
    with pytest.raises(InvalidManifestError) as caught:
        parse_job(manifest)
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("path", "value", "remedy"),
    [
        ("spec.runPolicy.priorityClass", 1000, "write the name of a PriorityClass"),
        ("spec.runPolicy.activeDeadlineSeconds", "1h30m", "write it in seconds: 5400"),
        ("spec.runPolicy.ttlSecondsAfterFinished", "7 days", "write it in seconds: 604800"),
        ("spec.runPolicy.suspend", "yes", "write true"),
        (
            "spec.backend.sagemaker",
            {"instanceType": "ml.m5.xlarge", "experiment": {"experimentName": "My_run"}},
            "write My-run: letters, digits and '-'. Experiment, which is there",
        ),
        ("spec.backend.sagemaker", {"instanceType": "p4d.24xlarge"}, "write ml.p4d.24xlarge. Instance type, e.g."),
        ("spec.backend.sagemaker", {"instanceTypes": ["P4d.24xlarge"]}, "write ml.p4d.24xlarge. Instance types in"),
        ("spec.backend.sagemaker", {"instanceType": "g5"}, "write a type of SageMaker, such as ml.g5.12xlarge"),
        (
            "spec.backend.sagemaker",
            {"instanceType": "ml.m5.xlarge", "instanceCount": 2},
            "did you mean spec.topology.nodes?",
        ),
        (
            "spec.backend.sagemaker",
            {"instanceType": "ml.m5.xlarge", "networkIsolation": True},
            "did you mean enableNetworkIsolation?",
        ),
        (
            "spec.backend.sagemaker",
            {"instanceType": "ml.m5.xlarge", "region": "eu-west-1b"},
            "eu-west-1b is an availability zone: write eu-west-1, the region that it is in",
        ),
        (
            "spec.backend.sagemaker",
            {"instanceType": "ml.m5.xlarge", "region": "EU_West_1"},
            "must match ^[a-z]{2,}(-[a-z]+)+-[0-9]$: write eu-west-1",
        ),
        (
            "spec.backend.sagemaker",
            {"instanceType": "ml.m5.xlarge", "roleArn": "arn:aws:iam::1234567890:role/train"},
            "an AWS account number has 12 digits, and '1234567890' is none",
        ),
        (
            "spec.backend.sagemaker",
            {"instanceType": "ml.m5.xlarge", "roleArn": "train"},
            "write arn:aws:iam::ACCOUNT:role/ROLE",
        ),
        (
            "spec.backend.sagemaker",
            {
                "instanceType": "ml.m5.xlarge",
                "trainingPlanArn": "arn:aws:sagemaker:eu-west-1:ACCOUNT:training-plan/plan",
            },
            "an AWS account number has 12 digits, and 'ACCOUNT' is none",
        ),
        (
            "spec.backend.sagemaker",
            {"instanceType": "ml.m5.xlarge", "region": "Ireland"},
            "write the code of a region, such as eu-west-1",
        ),
        (
            "spec.backend.sagemaker",
            {"instanceType": "ml.m5.xlarge", "tags": {"team": "a;b"}},
            "Tags of the training jobs, besides those of zerotune.",
        ),
        (
            "spec.backend.sagemaker",
            {"instanceType": "ml.m5.xlarge", "environment": {"A": "a" * 513}},
            "Variables of the ranks' environment.",
        ),
        ("spec.zero.stage", "3", "write it without quotes"),
        ("spec.topology.nodes", 2.5, "write 2 or 3"),
        ("spec.topology.nodes", "two", "write it in digits"),
        ("spec.topology.memory", 10.5, "write it with its unit, as in 10.5Gi"),
        ("spec.topology.memory", float("inf"), "neither NaN nor infinity is a number here"),
        ("spec.topology.memory", "10gb", "write 10G (units of 1000) or 10Gi (units of 1024)"),
        ("spec.method", "SFT", "did you mean sft?"),
        ("spec.method", "lora", "set spec.adapter"),
        ("spec.method", "grpo", "dpo, orpo and kto learn from given answers"),
        (
            "spec.model.uri",
            "s3://",
            "s3://BUCKET/PREFIX, pvc://CLAIM/PATH or file:///PATH: write what follows",
        ),
        ("spec.output.uri", "", "write one, or leave the field out"),
        ("spec.training.arguments.jit_mode_eval", True, "transformers has it no more, leave it out"),
        ("spec.model", "hf://org/base", "write uri: hf://org/base below it"),
        ("spec.model.uri", "org/base", "a model of the Hugging Face Hub is hf://org/base"),
        ("spec.model.uri", "https://huggingface.co/org/base", "a model of the Hugging Face Hub is hf://org/base"),
        ("spec.model.uri", "/models/base", "a path of this machine is file:///models/base"),
        ("spec.model.credentials", "keys", "write secretName: keys below it"),
        ("spec.output", "s3://aaa/out", "write uri: s3://aaa/out below it"),
        ("spec.data.train.uris", ["hf://org/set@v1"], "did you mean hf://datasets/org/set@v1?"),
        ("spec.training.arguments.report_to", "nonsense", "does not report: use one of none, all, kubeflow, azure_ml"),
        ("spec.training.arguments.report_to", ["wandbb"], "did you mean wandb? use one of"),
        ("spec.data.train", "s3://aaa/b", "write uris: [s3://aaa/b] below it"),
        ("spec.data.train", ["s3://aaa/b", {"uri": "s3://ccc"}], "write uris: [s3://aaa/b, s3://ccc] below it"),
        ("spec.data.train.uris", {"a": "s3://aaa/b"}, "each of its items begins with a dash"),
        ("spec.output.uri", " s3://aaa/out", "leave out the space around it"),
        ("spec.data.train.uris", ["gs://a/b.jsonl"], "copy it to where the job can read it"),
        ("spec.data.train.uris", ["/data/a.jsonl"], "a path of this machine is file:///data/a.jsonl"),
        ("spec.data.train.uris", ["file:/data/a.jsonl"], "a path of this machine is file:///data/a.jsonl"),
        ("spec.data.train.uris", ["FILE:///data/a.jsonl"], "did you mean file:///data/a.jsonl?"),
        ("spec.data.train.uris", ["hf://datasets/a/b@"], "did you mean hf://datasets/a/b? "),
        ("metadata.name", "a" * 61, f"write {'a' * 52}: "),
        ("metadata.labels", {"x": 1}, "write it in quotes"),
        ("metadata.annotations", {"sidecar.istio.io/inject": False}, "write it in quotes"),
    ],
)
def test_a_value_of_another_form_is_answered_with_the_one_that_is_wanted(path: str, value: Any, remedy: str) -> None:
    assert remedy in rejection(path, value)


@pytest.mark.parametrize(
    ("field", "meant"),
    [
        ("topology.workers", "nodes"),
        ("training.lr", "learningRate"),
        ("training.bf16", "precision"),
        ("training.optim", "spec.training.arguments.optim"),
        ("training.dataloaderNumWorkers", "spec.training.arguments.dataloader_num_workers"),
        ("evaluation.per_device_eval_batch_size", "spec.training.perDeviceEvalBatchSize"),
        ("adapter.rank", "r"),
        ("lora", "adapter"),
        ("model.name", "uri"),
        ("model.credentials.secret", "secretName"),
        ("data.train.files", "uris"),
        ("nodeSelector", "spec.backend.kubernetes.pod.spec.nodeSelector"),
        ("backend.kubernetes.tolerations", "spec.backend.kubernetes.pod.spec.tolerations"),
        ("env", "env of the container `trainer` in spec.backend.kubernetes.pod.spec.containers"),
        ("runPolicy.priorityClassName", "priorityClass"),
    ],
)
def test_a_field_by_its_name_elsewhere_is_answered_with_ours(field: str, meant: str) -> None:
    manifest = copy.deepcopy(TRAINING)
    part = manifest["spec"]
    *parents, name = field.split(".")
    for parent in parents:
        part = part.setdefault(parent, {})
    part[name] = "x"
    with pytest.raises(InvalidManifestError) as caught:
        parse_job(manifest)
    assert f"spec.{field} is not a field of" in caught.value.message
    assert f"did you mean {meant}?" in caught.value.message


@pytest.mark.slow
@given(st.text(max_size=80))
def test_a_name_that_is_proposed_is_taken(found: str) -> None:
    name = remedy_for_name(found).removeprefix("write ").partition(":")[0]
    if name:
        parse_job(TRAINING | {"metadata": {"name": name}})


def test_a_no_break_space_of_a_web_page_is_named(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(TRAINING).replace("  method", "\u00a0 method"))
    with pytest.raises(InvalidManifestError, match="there is a no-break space"):
        load_jobs(path)


def listed(kind: str, items: Any, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, **fields, "items": items}


BARE = {name: value for name, value in TRAINING.items() if name not in ("apiVersion", "kind")}


@pytest.mark.parametrize(
    "document",
    [
        listed("List", [TRAINING]),
        listed("FineTuneJobList", [TRAINING], apiVersion="zerotune.dev/v1alpha1"),
        listed("FineTuneJobList", [BARE], apiVersion="zerotune.dev/v1alpha1"),
        listed("List", [listed("List", [TRAINING])]),
    ],
)
def test_jobs_of_a_list_are_read_as_kubectl_reads_them(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(yaml.safe_dump(document))
    assert [job.metadata.name for job in load_jobs(path)] == ["job"]


@pytest.mark.parametrize("items", [TRAINING, "FineTuneJob", None])
def test_items_that_are_no_list_are_reported(items: Any, tmp_path: Path) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(yaml.safe_dump(listed("List", items)))
    with pytest.raises(InvalidManifestError, match=r"jobs.yaml:\d+: items is .*each of which begins with a dash"):
        load_jobs(path)
