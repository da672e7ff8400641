"""Rows as batches: what is padded, and what is kept apart."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from zerotune_trainer import data
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data.collate import FlatteningCollator, PackingCollator

MakeConfig = Callable[..., TrainConfig]
Tokenizer = PreTrainedTokenizerFast

RECORDS = [{"input_ids": [0, 5, 6, 7, 1]}, {"input_ids": [0, 8, 1], "labels": [-100, 8, 1]}]


def batch(config: TrainConfig, tokenizer: Tokenizer, flash: bool = False) -> dict[str, Any]:
    rows = data.prepare(config, tokenizer).train
    return data.collator(config, tokenizer, flash_attention=flash)([rows[number] for number in range(len(rows))])


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
        batch(make_config([*RECORDS, RECORDS[1]], **options, **more), tokenizer, flash)["input_ids"].shape
        for flash in (False, True)
        for more in ({}, {"padding": "max_length"}, {"padding": "max_length", "padToMultipleOf": 10})
    ]
    assert shapes == [(2, 8), (2, 8), (2, 10), (1, 11), (1, 16), (1, 20)]


def test_packed_documents_share_rows_and_do_not_predict_each_other(
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


def test_flash_attention_gets_documents_end_to_end(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    found = batch(make_config(RECORDS, packing="bfd_split", maxLength=8, padToMultipleOf=10), tokenizer, flash=True)
    for name in ("cu_seq_lens_q", "cu_seq_lens_k"):
        assert (found[name].tolist(), found.pop(name).dtype) == ([0, 5, 8, 10], torch.int32)
    assert [found.pop(name) for name in ("max_length_q", "max_length_k", "use_cache")] == [5, 5, False]
    check(
        found,
        {
            "input_ids": [[0, 5, 6, 7, 1, 0, 8, 1, 1, 1]],
            "labels": [[-100, 5, 6, 7, 1, -100, 8, 1, -100, -100]],
            "position_ids": [[0, 1, 2, 3, 4, 0, 1, 2, 0, 1]],
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "eager", "varlen"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_packed_documents_have_the_logits_they_have_alone(family: str, attention: str) -> None:
    """`varlen` is attention as flash attention computes it, from `cu_seq_lens`."""
    model = small_model(family, attention)
    collate = (FlatteningCollator if attention == "varlen" else PackingCollator)(pad_token_id=0, multiple=8)

    documents = st.lists(st.integers(1, 31), min_size=1, max_size=7)
    blocks = st.lists(st.lists(documents, min_size=1, max_size=3), min_size=1, max_size=3)

    @given(blocks)
    @settings(deadline=None, max_examples=10)
    def check_blocks(blocks: list[list[list[int]]]) -> None:
        packed = collate([packed_row(documents) for documents in blocks])
        logits = model(**packed).logits.flatten(0, 1)
        at = (packed["input_ids"].flatten() != 0).nonzero().flatten()
        alone = [model(input_ids=torch.tensor([ids]), use_cache=False).logits[0] for block in blocks for ids in block]
        torch.testing.assert_close(logits[at], torch.cat(alone), atol=1e-5, rtol=1e-4)

    with torch.no_grad():
        check_blocks()


def test_rows_of_blocks_and_end_to_end_give_the_same_loss() -> None:
    rows = [packed_row([[5, 6, 7, 8], [9, 10]]), packed_row([[11, 12, 13]])]
    losses = [
        small_model("llama", attention)(**collator(pad_token_id=0)(rows)).loss
        for attention, collator in (
            ("sdpa", PackingCollator),
            ("eager", PackingCollator),
            ("varlen", FlatteningCollator),
        )
    ]
    torch.testing.assert_close(losses, losses[:1] * 3)


def packed_row(documents: list[list[int]]) -> dict[str, Any]:
    ids = np.concatenate([np.array(document) for document in documents])
    return {"input_ids": ids, "labels": ids, "seq_lengths": np.array([len(document) for document in documents])}


def varlen_attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
    """Causal attention of each document by itself, taken from `cu_seq_lens_q` alone."""
    assert mask is None
    bounds = options["cu_seq_lens_q"].tolist() if "cu_seq_lens_q" in options else [0, query.shape[2]]
    groups = query.shape[1] // key.shape[1]
    key, value = (heads.repeat_interleave(groups, dim=1) for heads in (key, value))
    parts = [
        functional.scaled_dot_product_attention(
            *(heads[:, :, begin:end] for heads in (query, key, value)), is_causal=True, scale=options.get("scaling")
        )
        for begin, end in itertools.pairwise(bounds)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


@functools.cache
def small_model(family: str, attention: str) -> Any:
    AttentionInterface.register("varlen", varlen_attention)
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model(family, **sizes, intermediate_size=48, max_position_embeddings=32)
    config._attn_implementation = attention
    model = AutoModelForCausalLM.from_config(config)
    torch.nn.init.normal_(model.get_input_embeddings().weight)
    return model.eval()


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
