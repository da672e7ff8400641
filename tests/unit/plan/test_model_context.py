"""Rows longer than the model's context: rejected where the model cannot take them, else only noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zerotune_operator.plan import Plan
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError

PlanOf = Callable[..., Plan]
TRAIN = {"train": {"uris": ["s3://data/d.jsonl"]}}
RECORDS = {"uris": ["s3://data/d.jsonl"]}


def test_a_row_longer_than_a_table_of_positions_is_rejected(plan_training: PlanOf, plan_inference: PlanOf) -> None:
    assert plan_training(on="tiny-gpt2", data=TRAIN | {"maxLength": 512}).notes == ()
    assert plan_inference(on="tiny-gpt2", data=RECORDS).notes == ()
    for plan, data in ((plan_training, TRAIN), (plan_inference, RECORDS)):
        with pytest.raises(ConfigurationError) as rejected:
            plan(on="tiny-gpt2", data=data | {"maxLength": 513})
        assert (rejected.value.message, rejected.value.hint) == (
            "data.maxLength 513 exceeds the 512 positions that the gpt2 model has",
            "set data.maxLength to 512 or less, or use a model with a longer context",
        )


def test_padding_beyond_a_table_of_positions_is_rejected_where_it_is_certain(plan_training: PlanOf) -> None:
    data = TRAIN | {"maxLength": 500, "padding": "max_length"}
    assert plan_training(on="tiny-gpt2", data=data | {"padToMultipleOf": 64}).config
    beyond = data | {"padToMultipleOf": 300}
    assert plan_training(on="tiny-gpt2", data=beyond | {"padding": "longest"}).config, "for ranks to see"
    with pytest.raises(ConfigurationError) as rejected:
        plan_training(on="tiny-gpt2", data=beyond)
    assert rejected.value.message == (
        "data.padding: max_length pads rows to 600 tokens, a multiple of data.padToMultipleOf 300, "
        "and the gpt2 model has 512 positions"
    )
    assert rejected.value.hint == "lower data.maxLength, or let data.padToMultipleOf divide 512"


def test_a_row_longer_than_rotary_positions_were_trained_for_is_noted(plan_training: PlanOf) -> None:
    assert plan_training(data=TRAIN | {"maxLength": 512}).notes == ()
    assert plan_training(data=TRAIN | {"maxLength": 513}).notes == (
        "data.maxLength 513 exceeds the 512 tokens that the model was made for",
    )


def test_embeddings_that_are_to_grow_are_noted_as_not_estimated(plan_training: PlanOf) -> None:
    """Of a model only config.json is read before it is loaded: how many tokens its tokenizer has is not known."""
    assert plan_training(model={"uri": "s3://models/m"}).notes == ()
    (note,) = plan_training(model={"uri": "s3://models/m", "resizeEmbeddings": True}).notes
    assert note == (
        "model.resizeEmbeddings: memory is estimated for the 4,096 tokens of config.json; each token that the "
        "tokenizer has besides adds 128 parameters, and as many to an untied head"
    )


def test_packing_that_a_model_would_mix_is_rejected(plan_training: PlanOf, shape: Callable[[str], ModelShape]) -> None:
    bloom = shape("tiny-llama").model_copy(update={"architecture": "bloom"})
    with pytest.raises(ConfigurationError) as rejected:
        plan_training(on=bloom, data=TRAIN | {"packing": "bfd_split"})
    assert (rejected.value.message, rejected.value.hint) == (
        "data.packing: bfd_split mixes documents in a model of type bloom, which ignores position_ids",
        "set data.packing: none, or wrapped, which joins documents on purpose",
    )
    assert plan_training(on=bloom, data=TRAIN | {"packing": "wrapped"}).config


def test_preferences_whose_sequences_a_model_would_mix_are_rejected(
    plan_training: PlanOf, shape: Callable[[str], ModelShape]
) -> None:
    bloom = shape("tiny-llama").model_copy(update={"architecture": "bloom"})
    data = TRAIN | {"paddingFree": True}
    with pytest.raises(ConfigurationError, match="paddingFree mixes sequences in a model of type bloom"):
        plan_training(on=bloom, method="dpo", data=data)
    assert plan_training(method="dpo", data=data).config


def test_packing_that_flash_attention_may_carry_is_left_to_the_trainer(
    plan_training: PlanOf, shape: Callable[[str], ModelShape]
) -> None:
    gpus = {"nodes": 1, "gpusPerNode": 1, "accelerator": {"memory": "80Gi"}}
    options: dict[str, Any] = {
        "on": shape("tiny-llama").model_copy(update={"architecture": "opt"}),
        "data": TRAIN | {"packing": "bfd_split"},
        "topology": gpus,
    }
    assert plan_training(**options).config
    with pytest.raises(ConfigurationError, match="mixes documents in a model of type opt"):
        plan_training(**options, model={"uri": "s3://models/m", "attnImplementation": "sdpa"})
