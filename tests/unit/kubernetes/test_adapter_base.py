"""The pods of a job reach the base of its adapter, and the model it compares with: claims, and keys for them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.kubernetes.rendering import GOLDEN, INSTALLATION, fine_tune_job, inference_job, pod_spec, trainer
from zerotune_operator.backends.kubernetes.layout import place
from zerotune_operator.backends.kubernetes.render import Manifests, render
from zerotune_operator.plan import identity_of, plan_job
from zerotune_trainer.config import InferConfig, TrainConfig
from zerotune_trainer.sizing.model_config import shape_of_file

SHAPE = shape_of_file(GOLDEN / "plan" / "models" / "tiny-llama.json")
MODEL = {"uri": "s3://models/adapter", "credentials": {"secretName": "keys"}}


def attempt(make: Any, base_uri: str, **spec: Any) -> tuple[TrainConfig | InferConfig, Manifests]:
    job = make(model=MODEL, **spec)
    shape = SHAPE.model_copy(update={"base_uri": base_uri})
    plan = plan_job(job, shape, place(job, 0, MODEL["uri"]), identity_of(job))
    return plan.config, render(plan, job, INSTALLATION)


@pytest.mark.parametrize("make", [fine_tune_job, inference_job])
def test_the_claim_of_the_base_is_mounted(make: Any) -> None:
    config, made = attempt(make, "pvc://bases/llama")
    assert config.base_uri == "file:///mnt/pvc/bases/llama"
    assert config.model_source == "s3://models/adapter"
    claims = [each.get("persistentVolumeClaim") for each in pod_spec(made.job)["volumes"]]
    assert [claim["claimName"] for claim in claims if claim] == ["bases"]


def test_a_public_base_on_the_hub_needs_no_token() -> None:
    config, made = attempt(inference_job, "hf://org/base")
    assert config.base_uri == "hf://org/base"
    keys = {
        each["name"]: each["valueFrom"]["secretKeyRef"].get("optional", False)
        for each in trainer(made.job)["env"]
        if "secretKeyRef" in each.get("valueFrom", {})
    }
    assert keys["HF_TOKEN"] is True
    assert keys["AWS_ACCESS_KEY_ID"] is False


def test_a_reference_is_reached_by_its_claim_or_with_the_keys_of_the_model() -> None:
    for uri, claims, token in (("pvc://judges/one", ["judges"], None), ("hf://org/judge", [], True)):
        preference = {"referenceModel": {"uri": uri}}
        job = fine_tune_job(
            method="dpo", model=MODEL, preference=preference, data={"train": {"uris": ["s3://ddd/d.jsonl"]}}
        )
        plan = plan_job(job, SHAPE, place(job, 0, MODEL["uri"]), identity_of(job))
        made = render(plan, job, INSTALLATION)
        volumes = [each.get("persistentVolumeClaim") for each in pod_spec(made.job)["volumes"]]
        assert [volume["claimName"] for volume in volumes if volume] == claims
        keys = {each["name"]: each.get("valueFrom", {}) for each in trainer(made.job)["env"]}
        assert keys.get("HF_TOKEN", {}).get("secretKeyRef", {}).get("optional") is token
