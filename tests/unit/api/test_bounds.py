"""What is nested too deep, or is too large, is rejected before anything walks it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.api.test_webhook import answer_to, example
from zerotune_operator.api.load import InvalidManifestError, parse_job, read_job

LEVELS = 9_900
"""The API server takes 10,000."""


def nested(levels: int) -> dict[str, Any]:
    """An object in an object in an object."""
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


PLACES: dict[str, tuple[str, Any]] = {
    "deepspeed": ("training", {"deepspeed": nested(LEVELS)}),
    "pod": ("backend", {"kubernetes": {"pod": nested(LEVELS)}}),
    "many": ("backend", {"kubernetes": {"pod": {"metadata": {"annotations": {str(n): "" for n in range(40_000)}}}}}),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("read", [parse_job, read_job])
def test_a_spec_that_code_cannot_walk_is_rejected_by_its_field(place: str, read: Any) -> None:
    manifest = example("cpt")
    field, value = PLACES[place]
    manifest["spec"][field] = value

    with pytest.raises(InvalidManifestError, match=rf"spec\.{field}.* is nested more than 48 levels deep, or holds"):
        read(manifest)


@pytest.mark.anyio
async def test_the_webhook_rejects_what_is_nested_too_deep_and_lets_it_be_deleted() -> None:
    manifest = example("cpt")
    manifest["spec"]["training"] = {"deepspeed": nested(300)}

    response = await answer_to(manifest)
    assert response["status"]["code"] == 422
    assert "spec.training" in response["status"]["message"]

    going = json.loads(json.dumps(manifest))
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (await answer_to(going, oldObject=manifest))["allowed"]
