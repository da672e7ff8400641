"""Nothing is trained on from which nothing can be learned: such records are named, such blocks are left out."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tests.unit.data.conftest import MakeConfig
from zerotune_trainer import data
from zerotune_trainer.data.labels import IGNORE_INDEX, learnable_rows
from zerotune_trainer.errors import DataError

FIRST_ONLY = {"input_ids": [7, 8, 9], "labels": [7, IGNORE_INDEX, IGNORE_INDEX]}
ONE_TOKEN = {"input_ids": [7]}
GOOD = {"input_ids": [7, 8, 9]}


@pytest.mark.parametrize("record", [FIRST_ONLY, ONE_TOKEN])
def test_a_record_whose_first_token_alone_counts_is_named(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, record: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl:2: no token of the record counts in the loss and follows"):
        data.prepare(make_config([GOOD, record]), tokenizer)


def test_a_record_joined_to_the_one_before_it_may_have_one_token(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    prepared = data.prepare(make_config([GOOD, ONE_TOKEN], packing="wrapped", maxLength=8), tokenizer)
    assert prepared.counts.train.tokens == 4


def test_a_record_that_is_cut_to_what_cannot_be_learned_is_skipped(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    long = {"input_ids": [5] * 20, "labels": [5] + [IGNORE_INDEX] * 10 + [5] * 9}
    counts = data.prepare(make_config([GOOD, long], maxLength=8, overflow="truncate"), tokenizer).counts.train
    assert (counts.rows, counts.skipped_records) == (1, 1)


@pytest.mark.parametrize(("side", "other"), [("right", "left"), ("left", "right")])
def test_records_of_which_all_that_counts_is_cut_off_get_the_other_end_as_remedy(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, side: str, other: str
) -> None:
    counted, rest = [5] * 6, [IGNORE_INDEX] * 20
    record = {"input_ids": [5] * 26, "labels": rest + counted if side == "right" else counted + rest}
    config = make_config([record] * 2, maxLength=8, overflow="truncate", truncationSide=side)
    with pytest.raises(DataError, match=r"none of the 2 records .* keeps a token that counts") as rejected:
        data.prepare(config, tokenizer)
    assert rejected.value.hint == f"raise data.maxLength, or cut the other end with data.truncationSide: {other}"


@pytest.mark.parametrize("packing", ["wrapped", "bfd_split"])
def test_blocks_of_a_long_prompt_are_left_out_and_counted(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, packing: Literal["wrapped", "bfd_split"]
) -> None:
    prompt, answer = 70, 6
    record = {"input_ids": [5] * prompt + [6] * answer, "labels": [IGNORE_INDEX] * prompt + [6] * answer}
    prepared = data.prepare(make_config([record] * 4, packing=packing, maxLength=16), tokenizer)
    counts = prepared.counts.train
    assert counts.idle_blocks > 0
    assert counts.tokens + counts.idle_tokens == 4 * (prompt + answer)
    collate = data.collator(make_config([record], packing=packing, maxLength=16), tokenizer)
    for number in range(len(prepared.train)):
        assert (collate([prepared.train[number]])["labels"][:, 1:] != IGNORE_INDEX).any()


def test_blocks_of_nothing_but_prompts_are_an_error(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    # Each record has one token to learn, and in blocks of 8 it is always the first.
    record = {"input_ids": [5] * 8, "labels": [6] + [IGNORE_INDEX] * 7}
    with pytest.raises(DataError, match="none of the 3 blocks"):
        data.prepare(make_config([record] * 3, packing="wrapped", maxLength=8), tokenizer)


documents = st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=4)


@given(rows=st.lists(documents, min_size=1, max_size=5))
def test_a_row_is_learnable_by_a_counted_token_behind_another_of_its_document(rows: list[list[list[bool]]]) -> None:
    wanted = [any(any(document[1:]) for document in row) for row in rows]
    counted = [token for row in rows for document in row for token in document]
    labels = np.where(counted, 1, IGNORE_INDEX).astype(np.int32)
    sizes = [sum(len(document) for document in row) for row in rows]
    lengths = [len(document) for row in rows for document in row]
    assert learnable_rows(labels, sizes, lengths).tolist() == wanted
