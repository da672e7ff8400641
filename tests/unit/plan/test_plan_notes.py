"""What is harmless and has no effect is said by the plan, and rejected by nobody."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.plan.conftest import PlanOf

TRAIN = {"train": {"uris": ["s3://data/d.jsonl"]}, "maxLength": 128}
NOTE = "evaluation.evalStrategy is no: nothing is evaluated on the validation records"


@pytest.mark.parametrize(
    ("data", "strategy", "notes"),
    [
        ({"validation": {"uris": ["s3://data/v.jsonl"]}}, "no", (NOTE,)),
        ({"validationFraction": 0.1}, "no", (NOTE,)),
        ({"validationFraction": 0.1}, "epoch", ()),
        ({}, "no", ()),
    ],
)
def test_validation_records_without_evaluations_are_noted(
    plan_training: PlanOf, data: dict[str, Any], strategy: str, notes: tuple[str, ...]
) -> None:
    assert plan_training(data=TRAIN | data, evaluation={"evalStrategy": strategy}).notes == notes
