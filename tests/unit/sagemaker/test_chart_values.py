"""What the chart's values say of SageMaker: an installation that would reject every job is rejected itself."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.unit.sagemaker.jobs import ROLE
from zerotune_devtools.checkout import CHART

SCHEMA = json.loads((CHART / "values.schema.json").read_text())


@pytest.mark.parametrize(
    ("sagemaker", "message"),
    [
        ({"enabled": True, "namespaces": []}, "non-empty"),
        ({"enabled": True}, "'namespaces' is a required property"),
        ({"roleArn": "train"}, "'train' does not match"),
    ],
)
def test_values_that_let_no_job_run_are_rejected(sagemaker: dict[str, Any], message: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=message):
        jsonschema.validate({"sagemaker": sagemaker}, SCHEMA)


@pytest.mark.parametrize(
    "sagemaker",
    [
        {"enabled": False, "namespaces": [], "roleArn": None},
        {"namespaces": []},
        {"enabled": True, "namespaces": ["team-a"], "roleArn": ROLE},
    ],
)
def test_other_values_are_accepted(sagemaker: dict[str, Any]) -> None:
    jsonschema.validate({"sagemaker": sagemaker}, SCHEMA)
