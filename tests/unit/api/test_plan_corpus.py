"""What only a plan can find: the manifests are accepted, and planning them says what is wrong and what would do."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.api.admission_cases import PlanCase
from zerotune_operator.admission import review
from zerotune_operator.api.load import parse_job
from zerotune_operator.api.manifest_yaml import read_documents
from zerotune_operator.backends.kubernetes.placement import place
from zerotune_operator.models import Hub
from zerotune_operator.plan import plan_job
from zerotune_trainer.config import JobIdentity
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.shape import read_shape

EXAMPLES = Path(__file__).parents[3] / "crds" / "examples"
MODELS = Path(__file__).parents[2] / "golden" / "plan" / "models"


def test_is_accepted_and_its_plan_refused(plan_case: PlanCase) -> None:
    job = parse_job(plan_case.manifest)
    shape = read_shape(json.loads((MODELS / f"{plan_case.model}.json").read_text()), plan_case.model)
    with pytest.raises(ConfigurationError) as caught:
        plan_job(job, shape, place(job, 0, "s3://models/m"), JobIdentity(kind=job.kind, name="j", uid="u"))
    assert plan_case.message in caught.value.message
    assert plan_case.hint in caught.value.hint
    assert caught.value.exit_code == 64


def example(name: str) -> dict[str, Any]:
    """The manifest of an example, as kubectl reads it."""
    (document,) = read_documents((EXAMPLES / f"{name}.yaml").read_text())
    value: dict[str, Any] = document.value
    return value


async def answer_to(manifest: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What the webhook answers to a manifest."""
    review_of = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    answered = await review(review_of | {"request": {"uid": "r", "object": manifest, **more}}, Hub())
    assert answered.items() > review_of.items()
    response: dict[str, Any] = answered["response"]
    assert response.pop("uid") == "r"
    return response


@pytest.mark.anyio
async def test_the_webhook_refuses_it_and_says_the_same(plan_case: PlanCase) -> None:
    shape = read_shape(json.loads((MODELS / f"{plan_case.model}.json").read_text()), plan_case.model)
    known = plan_case.manifest | {"status": {"model": shape.model_dump(by_alias=True)}}

    response = await answer_to(known)

    assert response["allowed"] is False
    assert (response["status"]["code"], response["status"]["reason"]) == (422, "Invalid")
    assert plan_case.message in response["status"]["message"]
    assert plan_case.hint in response["status"]["message"]


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["cpt", "sft", "infer-transformers"])
async def test_the_webhook_admits_what_can_be_carried_out_also_where_the_model_is_unknown(name: str) -> None:
    manifest = example(name)
    manifest["spec"]["model"] = {"uri": "s3://models/m"}

    assert await answer_to(manifest) == {"allowed": True, "warnings": []}


@pytest.mark.anyio
async def test_the_webhook_refuses_a_change_that_cannot_be_carried_out() -> None:
    old = example("cpt")
    new = copy.deepcopy(old)
    new["spec"]["method"] = "sft"

    response = await answer_to(new, oldObject=old)

    assert response["allowed"] is False
    assert "spec.method" in response["status"]["message"]


@pytest.mark.anyio
async def test_the_webhook_lets_a_job_be_labelled_and_go_that_other_rules_admitted(plan_case: PlanCase) -> None:
    shape = read_shape(json.loads((MODELS / f"{plan_case.model}.json").read_text()), plan_case.model)
    old = plan_case.manifest | {"status": {"model": shape.model_dump(by_alias=True)}}
    labelled = old | {"metadata": old["metadata"] | {"labels": {"team": "triage"}}}
    going = copy.deepcopy(old)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    going["spec"]["runPolicy"] = {"suspend": True}

    for new in (labelled, going):
        assert await answer_to(new, oldObject=old) == {"allowed": True, "warnings": []}
