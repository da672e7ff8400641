"""Rows longer than the model's context: refused where the model cannot take them, else only said."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zerotune_operator.plan import Plan
from zerotune_trainer.errors import ConfigurationError

PlanOf = Callable[..., Plan]
TRAIN = {"train": {"uris": ["s3://data/d.jsonl"]}}
RECORDS = {"uris": ["s3://data/d.jsonl"]}


def test_a_row_longer_than_a_table_of_positions_is_refused(plan_training: PlanOf, plan_inference: PlanOf) -> None:
    assert plan_training(on="tiny-gpt2", data=TRAIN | {"maxLength": 512}).notes == ()
    assert plan_inference(on="tiny-gpt2", data=RECORDS).notes == ()
    for plan, data in ((plan_training, TRAIN), (plan_inference, RECORDS)):
        with pytest.raises(ConfigurationError) as refused:
            plan(on="tiny-gpt2", data=data | {"maxLength": 513})
        assert (refused.value.message, refused.value.hint) == (
            "data.maxLength 513 exceeds the 512 positions that the gpt2 model has",
            "set data.maxLength to 512 or less, or use a model with a longer context",
        )


def test_a_row_longer_than_rotary_positions_were_trained_for_is_noted(plan_training: PlanOf) -> None:
    assert plan_training(data=TRAIN | {"maxLength": 512}).notes == ()
    assert plan_training(data=TRAIN | {"maxLength": 513}).notes == (
        "data.maxLength 513 exceeds the 512 tokens that the model was made for",
    )
