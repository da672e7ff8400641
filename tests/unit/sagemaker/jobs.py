"""Jobs for SageMaker, and the training jobs that are rendered for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.unit.kubernetes.rendering import GOLDEN, UID
from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import parse_job
from zerotune_operator.backends.check import check
from zerotune_operator.backends.model_shape import shape_of_file
from zerotune_operator.backends.registry import Target
from zerotune_operator.backends.sagemaker.layout import place
from zerotune_operator.backends.sagemaker.render import TrainingJob, render
from zerotune_operator.backends.sagemaker.settings import SageMakerSettings
from zerotune_operator.plan import Plan, identity_of, plan_job

ROLE = "arn:aws:iam::123456789012:role/train"
SETTINGS = SageMakerSettings(
    enabled=True,
    namespaces=("default",),
    role_arn=ROLE,
    image="123456789012.dkr.ecr.eu-west-1.amazonaws.com/zerotune/trainer:0.1.0",
    region="us-east-1",
)
MODELS: Path = GOLDEN / "plan" / "models"


def sagemaker_job(
    kind: str = "FineTuneJob", name: str = "tune", nodes: int = 2, gpus: int = 0, **sagemaker: Any
) -> Job:
    if "instanceTypes" not in sagemaker:
        sagemaker = {"instanceType": "ml.m5.4xlarge"} | sagemaker
    data: dict[str, Any] = {"uris": ["s3://ddd/d.jsonl"]}
    spec: dict[str, Any] = {"data": data} if kind == "InferenceJob" else {"method": "sft", "data": {"train": data}}
    return parse_job(
        {
            "apiVersion": "zerotune.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "uid": UID},
            "spec": {
                "model": {"uri": "s3://models/m"},
                "output": {"uri": "s3://results/r"},
                "topology": {"nodes": nodes, "gpusPerNode": gpus},
                "backend": {"sagemaker": sagemaker},
                **spec,
            },
        }
    )


def plan(job: Job, attempt: int = 0, model: str = "tiny-llama") -> Plan:
    """The plan of a job that was checked, as the webhook and `zerotune plan` check one."""
    check(job, Target.SAGEMAKER)
    model_uri = job.spec.model.uri or "s3://models/m"
    shape = shape_of_file(MODELS / f"{model}.json")
    return plan_job(job, shape, place(job, model_uri), identity_of(job, attempt))


def training_job(job: Job, attempt: int = 0, settings: SageMakerSettings = SETTINGS) -> TrainingJob:
    return render(plan(job, attempt), job, settings)
