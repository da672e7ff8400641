"""Rows as batches: what is padded, and what is kept apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from zerotune_trainer import data
from zerotune_trainer.config import TrainConfig

MakeConfig = Callable[..., TrainConfig]
Tokenizer = PreTrainedTokenizerFast

RECORDS = [{"input_ids": [0, 5, 6, 7, 1]}, {"input_ids": [0, 8, 1], "labels": [-100, 8, 1]}]


def batch(config: TrainConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    rows = data.prepare(config, tokenizer).train
    return data.collator(config, tokenizer)([rows[number] for number in range(len(rows))])


def check(found: dict[str, Any], wanted: dict[str, list[list[int]]]) -> None:
    assert {name: tensor.tolist() for name, tensor in found.items()} == wanted
    assert {tensor.dtype for tensor in found.values()} == {torch.int64}


def test_d16_a_pad_token_that_is_eos_masks_no_eos_and_labels_are_padded(
    make_config: MakeConfig, tokenizer: Tokenizer
) -> None:
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 1
    check(
        batch(make_config(RECORDS), tokenizer),
        {
            "input_ids": [[0, 5, 6, 7, 1], [0, 8, 1, 1, 1]],
            "labels": [[0, 5, 6, 7, 1], [-100, 8, 1, -100, -100]],
            "attention_mask": [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]],
        },
    )


def test_r34_padding_to_max_length_and_to_a_multiple(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    options: dict[str, dict[str, Any]] = {
        "longest": {},
        "max_length": {"padding": "max_length"},
        "multiple": {"padToMultipleOf": 8},
        "both": {"padding": "max_length", "padToMultipleOf": 8},
    }
    shapes = {
        name: batch(make_config(RECORDS, maxLength=12, **each), tokenizer)["input_ids"].shape
        for name, each in options.items()
    }
    assert shapes == {"longest": (2, 5), "max_length": (2, 12), "multiple": (2, 8), "both": (2, 16)}


def test_r34_packed_blocks_are_padded_to_max_length_each(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    options: dict[str, Any] = {"packing": "bfd_split", "maxLength": 8}
    shapes = [
        batch(make_config([*RECORDS, RECORDS[1]], **options, **more), tokenizer)["input_ids"].shape
        for more in ({}, {"padding": "max_length"}, {"padding": "max_length", "padToMultipleOf": 10})
    ]
    assert shapes == [(1, 11), (1, 16), (1, 20)]


def test_packed_documents_are_one_row_and_do_not_predict_each_other(
    make_config: MakeConfig, tokenizer: Tokenizer
) -> None:
    found = batch(make_config(RECORDS, packing="bfd_split", maxLength=8, padToMultipleOf=10), tokenizer)
    assert found.pop("use_cache") is False
    check(
        found,
        {
            "input_ids": [[0, 5, 6, 7, 1, 0, 8, 1, 1, 1]],
            "labels": [[-100, 5, 6, 7, 1, -100, 8, 1, -100, -100]],
            "position_ids": [[0, 1, 2, 3, 4, 0, 1, 2, 0, 0]],
        },
    )


def test_a_model_sees_packed_documents_as_separate_ones(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).eval()
    generator = np.random.default_rng(0)
    records = [{"input_ids": generator.integers(2, 32, size).tolist()} for size in (9, 4, 7, 3, 6, 8)]
    packed = batch(make_config(records, packing="bfd_split", maxLength=16), tokenizer)
    with torch.no_grad():
        together = model(**packed).loss
        losses = [model(input_ids=ids, labels=ids).loss * (ids.shape[1] - 1) for ids in tensors(records)]
    torch.testing.assert_close(together, torch.stack(losses).sum() / sum(len(r["input_ids"]) - 1 for r in records))


def tensors(records: list[dict[str, list[int]]]) -> list[torch.Tensor]:
    return [torch.tensor([record["input_ids"]]) for record in records]
