"""Records to evaluate on: never trained on, and the same whatever else changes."""

from __future__ import annotations

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
Listed = Callable[[Any], list[dict[str, Any]]]


@pytest.mark.parametrize("packing", ["none", "wrapped", "bfd_split"])
def test_held_out_records_are_never_trained_on(
    make_config: MakeConfig, tokenizer: Tokenizer, packing: str, listed: Listed
) -> None:
    records = [{"input_ids": [number] * 5} for number in range(100)]
    config = make_config(records, packing=packing, validationFraction=0.1, maxLength=16)
    prepared = data.prepare(config, tokenizer)

    def seen(dataset: Any) -> set[int]:
        return {token for row in listed(dataset) for token in row["input_ids"]}

    held_out = seen(prepared.validation)
    assert len(held_out) == 10 and seen(prepared.train) == set(range(100)) - held_out
    assert prepared.counts.validation is not None
    assert (prepared.counts.train.records, prepared.counts.validation.records) == (90, 10)
    assert (prepared.counts.train.tokens, prepared.counts.validation.tokens) == (450, 50)
    other_seed = config.model_copy(update={"training": config.training.model_copy(update={"seed": 8})})
    assert seen(data.prepare(other_seed, tokenizer).validation) != held_out


def test_both_completions_of_a_pair_are_held_out_by_kto_or_neither(
    make_config: MakeConfig, tokenizer: Tokenizer, listed: Listed
) -> None:
    records = [{"prompt": f"{n}?", "chosen": f" yes {n}", "rejected": f" no {n}"} for n in range(20)]
    prepared = data.prepare(make_config(records, method="kto", validationFraction=0.25), tokenizer)
    assert prepared.validation is not None and prepared.counts.validation is not None
    for rows, number in ((prepared.train, 15), (prepared.validation, 5)):
        good = [bool(row["desirable"][0]) for row in listed(rows)]
        assert good == [True, False] * number
    assert (prepared.counts.train.records, prepared.counts.validation.records) == (15, 5)


def test_the_split_does_not_depend_on_the_packing(
    make_config: MakeConfig, tokenizer: Tokenizer, listed: Listed
) -> None:
    records = [{"input_ids": [number] * 5} for number in range(50)]
    found = [
        {token for row in listed(data.prepare(config, tokenizer).validation) for token in row["input_ids"]}
        for config in (make_config(records, packing=each, validationFraction=0.2) for each in ("none", "wrapped"))
    ]
    assert found[0] == found[1]


def test_validation_records_of_their_own(make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "held.jsonl").write_text('{"text": "held out"}\n')
    config = make_config([{"text": "trained"}], validation={"uris": [f"file://{tmp_path}/held.jsonl"]})
    prepared: Any = data.prepare(config, tokenizer)
    assert tokenizer.decode(prepared.validation[0]["input_ids"]) == "<s>held out</s>"
    assert tokenizer.decode(prepared.train[0]["input_ids"]) == "<s>trained</s>"


def test_one_record_cannot_be_divided(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"1 record cannot be divided by data.validationFraction 0.5"):
        data.prepare(make_config([{"text": "x"}], validationFraction=0.5), tokenizer)
