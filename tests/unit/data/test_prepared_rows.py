"""Records as rows: every token and label is there, and what is too long is reported, cut or skipped, and counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from zerotune_trainer import data
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.errors import DataError

MakeConfig = Callable[..., TrainConfig]
Tokenizer = PreTrainedTokenizerFast
Rows = list[dict[str, Any]]
Listed = Callable[[Any], list[dict[str, Any]]]


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["wrapped", "bfd_split"])
def test_cpt_trains_every_token_and_ends_every_document(
    make_config: MakeConfig, tokenizer: Tokenizer, weaknesses: Rows, packing: str, listed: Listed
) -> None:
    prepared = data.prepare(make_config(weaknesses, method="cpt", packing=packing, maxLength=128), tokenizer)
    documents = [[*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id] for row in weaknesses]
    tokens = [token for document in documents for token in document]
    rows = listed(prepared.train)
    found = [token for row in rows for token in row["input_ids"]]
    assert sorted(found) == sorted(tokens)
    assert packing == "bfd_split" or found == tokens
    assert all(row["labels"] == row["input_ids"] for row in rows)
    assert max(len(row["input_ids"]) for row in rows) == 128
    size = len(tokens)
    assert prepared.counts == data.DataCounts(
        train=data.SplitCounts(records=len(weaknesses), rows=len(rows), tokens=size, loss_tokens=size)
    )
    assert prepared.validation is None


def test_cpt_wraps_by_default_and_sft_does_not_pack(make_config: MakeConfig) -> None:
    record = [{"text": "x"}]
    assert make_config(record, method="cpt").packing == "wrapped"
    assert make_config(record, method="sft").packing == "none"
    assert make_config(record, method="cpt", packing="none").packing == "none"


def pairs(weaknesses: Rows) -> Rows:
    return [{"prompt": f"What is CWE-{row['id']}?", "completion": f" {row['name']}"} for row in weaknesses]


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["none", "wrapped", "bfd_split"])
def test_r12_sft_packs_and_does_not_with_the_same_tokens_and_labels(
    make_config: MakeConfig, tokenizer: Tokenizer, weaknesses: Rows, packing: str, listed: Listed
) -> None:
    records = pairs(weaknesses)
    rows = listed(data.prepare(make_config(records, packing=packing, maxLength=128), tokenizer).train)
    plain = listed(data.prepare(make_config(records, maxLength=128), tokenizer).train)
    assert len(plain) == len(records) and (packing == "none" or len(rows) < len(plain) / 2)

    def tokens(of: Rows) -> list[tuple[int, int]]:
        return sorted(pair for row in of for pair in zip(row["input_ids"], row["labels"], strict=True))

    assert tokens(rows) == tokens(plain)


LONG = [{"text": "one"}, {"text": "weakness " * 30}, {"text": "two"}]


def test_too_long_a_record_is_an_error_that_says_what_to_do(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    size = len(tokenizer(LONG[1]["text"])["input_ids"]) + 1
    with pytest.raises(DataError, match=rf"train.jsonl:2: {size} tokens are more than data.maxLength 16") as caught:
        data.prepare(make_config(LONG, maxLength=16), tokenizer)
    assert "raise data.maxLength" in caught.value.hint and "truncate or skip" in caught.value.hint


@pytest.mark.parametrize("side", ["right", "left"])
def test_r34_truncation_keeps_one_side_and_is_counted(make_config: MakeConfig, tokenizer: Tokenizer, side: str) -> None:
    config = make_config(LONG, maxLength=16, overflow="truncate", truncationSide=side)
    prepared = data.prepare(config, tokenizer)
    ids = [*tokenizer(LONG[1]["text"])["input_ids"], tokenizer.eos_token_id]
    kept = ids[:16] if side == "right" else ids[-16:]
    assert prepared.train[1]["input_ids"].tolist() == prepared.train[1]["labels"].tolist() == kept
    counts = prepared.counts.train
    assert (counts.records, counts.rows, counts.truncated_records, counts.dropped_tokens) == (3, 3, 1, len(ids) - 16)


def test_skipping_is_counted(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    counts = data.prepare(make_config(LONG, maxLength=16, overflow="skip"), tokenizer).counts.train
    size = len(tokenizer(LONG[1]["text"])["input_ids"]) + 1
    assert (counts.records, counts.rows, counts.skipped_records, counts.dropped_tokens) == (3, 2, 1, size)


def test_a_row_whose_answer_was_cut_off_is_skipped_not_trained_without_loss(
    make_config: MakeConfig, tokenizer: Tokenizer
) -> None:
    records = [{"prompt": "one", "completion": " two"}, {"prompt": "weakness " * 30, "completion": " x"}]
    counts = data.prepare(make_config(records, maxLength=16, overflow="truncate"), tokenizer).counts.train
    assert (counts.rows, counts.skipped_records, counts.truncated_records) == (1, 1, 0)


def test_validation_records_that_are_all_too_long_are_named(
    make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text(json.dumps(LONG[1]) + "\n")
    validation = {"uris": [held_out.as_uri()]}
    with pytest.raises(DataError, match=f"no record of {re.escape(str(held_out))}, of 1 in all, fits") as caught:
        data.prepare(make_config(LONG, maxLength=16, overflow="skip", validation=validation), tokenizer)
    assert "data.overflow: truncate" in caught.value.hint


def test_nothing_left_is_an_error(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"no record of .*, of 1 in all, fits into data.maxLength 16"):
        data.prepare(make_config(LONG[1:2], maxLength=16, overflow="skip"), tokenizer)
