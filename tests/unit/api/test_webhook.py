"""What the webhook admits, and which changes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.api.admission_cases import PlanCase
from zerotune_operator.api.manifest_yaml import read_documents
from zerotune_operator.backends.hub import Hub
from zerotune_operator.backends.kubernetes.installation import UNKNOWN_INSTALLATION
from zerotune_operator.controller.webhook import review
from zerotune_trainer.sizing.shape import read_shape

EXAMPLES = Path(__file__).parents[3] / "crds" / "examples"
MODELS = Path(__file__).parents[2] / "golden" / "plan" / "models"


def example(name: str) -> dict[str, Any]:
    """The manifest of an example, as kubectl reads it."""
    (document,) = read_documents((EXAMPLES / f"{name}.yaml").read_text())
    value: dict[str, Any] = document.value
    return value


async def answer_to(manifest: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What the webhook answers to a manifest."""
    review_of = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    answered = await review(
        review_of | {"request": {"uid": "r", "object": manifest, **more}}, Hub(), UNKNOWN_INSTALLATION
    )
    assert answered.items() > review_of.items()
    response: dict[str, Any] = answered["response"]
    assert response.pop("uid") == "r"
    return response


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["cpt", "sft", "infer-transformers"])
async def test_the_webhook_admits_what_can_be_carried_out_also_where_the_model_is_unknown(name: str) -> None:
    manifest = example(name)
    manifest["spec"]["model"] = {"uri": "s3://models/m"}

    assert await answer_to(manifest) == {"allowed": True, "warnings": []}


@pytest.mark.anyio
async def test_the_webhook_rejects_a_change_that_cannot_be_carried_out() -> None:
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


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["cpt", "infer-transformers", "sagemaker"])
async def test_a_change_of_a_job_that_has_ended_is_admitted_and_said_to_do_nothing(name: str) -> None:
    old = example(name) | {"status": {"phase": "Failed"}}
    new = copy.deepcopy(old)
    new["spec"]["runPolicy"] = {"suspend": True}

    response = await answer_to(new, oldObject=old)

    assert response["allowed"] is True
    (warning,) = response["warnings"]
    assert "its phase is Failed: of a changed spec only runPolicy.ttlSecondsAfterFinished counts any more" in warning
