"""Nothing is trained on from which nothing can be learned: such records are named, such blocks are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tests.unit.data.conftest import MakeConfig
from zerotune_trainer import data
from zerotune_trainer.data.__main__ import main
from zerotune_trainer.data.labels import IGNORE_INDEX, learnable_rows
from zerotune_trainer.errors import DataError

FIRST_ONLY = {"input_ids": [7, 8, 9], "labels": [7, IGNORE_INDEX, IGNORE_INDEX]}
ONE_TOKEN = {"input_ids": [7]}
PADDED_AWAY = {"input_ids": [7, 0, 0], "attention_mask": [1, 0, 0]}
GOOD = {"input_ids": [7, 8, 9]}


@pytest.mark.parametrize("packing", ["none", "wrapped", "bfd_split"])
@pytest.mark.parametrize("record", [FIRST_ONLY, ONE_TOKEN, PADDED_AWAY])
def test_a_record_whose_first_token_alone_counts_is_named(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, record: dict[str, Any], packing: str
) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl:2: no token of the record counts in the loss and follows"):
        data.prepare(make_config([GOOD, record], packing=packing), tokenizer)


def test_padding_of_tokenized_records_is_left_out(make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    padded = {"input_ids": [0, 7, 8, 9, 0], "attention_mask": [0, 1, 1, 1, 0]}
    prepared = data.prepare(make_config([GOOD, padded]), tokenizer)
    assert prepared.train[1]["input_ids"].tolist() == prepared.train[1]["labels"].tolist() == [7, 8, 9]


@pytest.mark.parametrize("mask", [[1, 1], [1, 1, 2], 1, [True, None, True]], ids=str)
def test_a_mask_that_does_not_fit_its_tokens_is_named(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, mask: Any
) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl:2: attention_mask is .* 0 or 1 for each of 3 input_ids"):
        data.prepare(make_config([GOOD | {"attention_mask": [1, 1, 1]}, GOOD | {"attention_mask": mask}]), tokenizer)


def test_rows_that_no_job_can_train_on_are_not_prepared(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config([GOOD], validationFraction=0.5)
    (tmp_path / "config.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    assert main(["prepare", str(tmp_path), str(tmp_path / "rows")]) == 65
    assert "cannot be divided" in capsys.readouterr().err and not (tmp_path / "rows").exists()


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
    with pytest.raises(DataError, match=r"no record of .*, of 2 in all, keeps a token that counts") as rejected:
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
    record = {"input_ids": [5] * 16, "labels": [IGNORE_INDEX] * 8 + [6] + [IGNORE_INDEX] * 7}
    with pytest.raises(DataError, match="none of the 6 blocks"):
        data.prepare(make_config([record] * 3, packing="wrapped", maxLength=8), tokenizer)


documents = st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=4)


@pytest.mark.slow
@given(rows=st.lists(documents, min_size=1, max_size=5))
def test_a_row_is_learnable_by_a_counted_token_behind_another_of_its_document(rows: list[list[list[bool]]]) -> None:
    wanted = [any(any(document[1:]) for document in row) for row in rows]
    counted = [token for row in rows for document in row for token in document]
    labels = np.where(counted, 1, IGNORE_INDEX).astype(np.int32)
    sizes = [sum(len(document) for document in row) for row in rows]
    lengths = [len(document) for row in rows for document in row]
    assert learnable_rows(labels, sizes, lengths).tolist() == wanted
