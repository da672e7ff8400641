"""What is harmless and has no effect is said by the plan, and rejected by nobody."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.plan.conftest import PlanOf, shape_of
from zerotune_trainer.config.adapter import StoredAdapter

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


@pytest.mark.parametrize(
    ("stored", "asked", "noted"),
    [
        (["q_proj", "v_proj"], ["all-linear"], "does not lie on down_proj, gate_proj, k_proj, o_proj, up_proj"),
        (["q_proj", "v_proj"], ["q_proj", "v_proj"], ""),
        (["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], ["all-linear"], ""),
        (None, ["all-linear"], ""),
    ],
)
def test_an_adapter_on_fewer_layers_than_all_linear_ones_is_noted(
    plan_training: PlanOf, stored: list[str] | None, asked: list[str], noted: str
) -> None:
    shape = shape_of("tiny-llama").model_copy(update={"adapter": StoredAdapter(r=16, alpha=32, target_modules=stored)})
    (*notes,) = plan_training(shape, adapter={"type": "lora", "targetModules": asked}).notes
    assert [noted in note for note in notes] == ([True] if noted else [])
