"""Models, layouts and jobs to plan with."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import parse_job
from zerotune_operator.backends.kubernetes.layout import place
from zerotune_operator.plan import Plan, plan_job
from zerotune_trainer.config import JobIdentity
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.sizing.shape import read_shape

GOLDEN = Path(__file__).parents[2] / "golden" / "plan"

PlanOf = Callable[..., Plan]


def shape_of(name: str) -> ModelShape:
    return read_shape(json.loads((GOLDEN / "models" / f"{name}.json").read_text()), name)


def plan_of(job: Job, model: str | ModelShape) -> Plan:
    identity = JobIdentity(kind=job.kind, name=job.metadata.name, uid=job.metadata.uid)
    assert job.spec.model.uri is not None
    shape = shape_of(model) if isinstance(model, str) else model
    return plan_job(job, shape, place(job, 0, job.spec.model.uri), identity)


def fine_tune_job(**spec: Any) -> Job:
    return parse_job(
        {
            "apiVersion": "zerotune.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "tune", "uid": "u"},
            "spec": {
                "method": "sft",
                "model": {"uri": "s3://models/m"},
                "data": {"train": {"uris": ["s3://data/d.jsonl"]}, "maxLength": 128},
                "output": {"uri": "s3://results/r"},
                **spec,
            },
        }
    )


def inference_job(**spec: Any) -> Job:
    return parse_job(
        {
            "apiVersion": "zerotune.dev/v1alpha1",
            "kind": "InferenceJob",
            "metadata": {"name": "ask", "uid": "u"},
            "spec": {
                "model": {"uri": "s3://models/m"},
                "data": {"uris": ["s3://data/d.jsonl"], "maxLength": 128},
                "output": {"uri": "s3://results/r"},
                **spec,
            },
        }
    )


@pytest.fixture(scope="session")
def plan_training() -> PlanOf:
    """Plan a FineTuneJob with these parts of a spec; `on` names the model, or is its shape."""
    return lambda on="tiny-llama", **spec: plan_of(fine_tune_job(**spec), on)


@pytest.fixture(scope="session")
def plan_inference() -> PlanOf:
    """Plan an InferenceJob with these parts of a spec; `on` names the model."""
    return lambda on="tiny-llama", **spec: plan_of(inference_job(**spec), on)


@pytest.fixture(scope="session")
def shape() -> Callable[[str], ModelShape]:
    """The shape of a model in tests/golden/plan/models."""
    return shape_of


@pytest.fixture
def zerotune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command, without a home of the user's and without a network."""
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    return Path(sys.executable).with_name("zerotune")
