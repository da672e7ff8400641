"""`training.arguments`: every field of TrainingArguments, or a pointer to its own place; else rejected."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from zerotune_operator.api.crd import KINDS, resource_schema
from zerotune_trainer.config.arguments import check_arguments, known, settable
from zerotune_trainer.config.training import Training

SAMPLING = "training.arguments.train_sampling_strategy"
SPEC = resource_schema(KINDS[0])["properties"]["spec"]


def _complaint(name: str, value: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Training(arguments={name: value})
    complaints: dict[str, str] = caught.value.errors()[0]["ctx"]["complaints"]
    return complaints[name]


@pytest.mark.parametrize("name", settable())
def test_r17_its_default_can_be_set(name: str) -> None:
    assert check_arguments({name: known()[name].default}) == {name: known()[name].default}


@pytest.mark.parametrize("name", sorted(known().keys() - settable().keys()))
def test_r17_what_cannot_be_set_says_where_it_is_or_why(name: str) -> None:
    complaint = _complaint(name, known()[name].default)
    place = re.search(r"use ([a-z][A-Za-z0-9.]*)$", complaint)
    if not place:
        assert re.search(r"cannot be set, .{15,}: leave it out$|use an InferenceJob$", complaint)
        return
    schema = SPEC
    for part in place[1].split("."):
        schema = schema["properties"][part]


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("neftune_noise", 5, "is not a field of transformers' TrainingArguments: did you mean neftune_noise_alpha?"),
        (
            "group_by_length",
            True,
            f"is not a field of transformers' TrainingArguments: use {SAMPLING}: group_by_length",
        ),
        ("qqq", 1, "is not a field of transformers' TrainingArguments: leave it out"),
        ("dataloader_num_workers", "25", "is '25', must be of type integer"),
        ("logging_first_step", 1, "is 1, must be of type boolean"),
        ("label_smoothing_factor", True, "is True, must be of type number"),
        ("optim", "adamw_torc", "is 'adamw_torc', which transformers does not have: did you mean adamw_torch?"),
        ("optim_target_modules", 3, "is 3, must be of type array or string"),
    ],
)
def test_r17_rejected(name: str, value: object, complaint: str) -> None:
    assert _complaint(name, value) == complaint


def test_r23_ddp_buffers() -> None:
    assert Training(arguments={"ddp_broadcast_buffers": False}).arguments == {"ddp_broadcast_buffers": False}
