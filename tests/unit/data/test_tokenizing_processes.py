"""Many processes tokenize: the rows and the errors are those of one, and a process that dies is reported."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from zerotune_trainer import data
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data import parallel
from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import DataError, OutOfMemoryError

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., TrainConfig]
Tokenizer = PreTrainedTokenizerFast
Rows = list[dict[str, Any]]
WriteFunction = Callable[[str], dict[str, str]]
Listed = Callable[[Any], list[dict[str, Any]]]


def test_rows_do_not_depend_on_the_number_of_processes(
    make_config: MakeConfig, tokenizer: Tokenizer, weaknesses: Rows, listed: Listed
) -> None:
    options: dict[str, Any] = {"method": "cpt", "packing": "none", "maxLength": 4096}
    found = []
    for processes in (1, 2, 3):
        config = make_config(weaknesses * 4, cache=f"cache{processes}", **options)
        found.append(listed(data.prepare(config, tokenizer, processes).train))
    assert found[0] == found[1] == found[2]
    assert [row["input_ids"][1:-1] for row in found[0][:3]] == [
        tokenizer(row["text"], add_special_tokens=False)["input_ids"] for row in weaknesses[:3]
    ]


def test_a_bad_record_is_the_same_error_in_many_processes(
    make_config: MakeConfig, tokenizer: Tokenizer, weaknesses: Rows
) -> None:
    records = [*weaknesses * 3, {"text": None}, {"text": None}]
    with pytest.raises(DataError, match=r"train.jsonl:901: column 'text' is null"):
        data.prepare(make_config(records, method="cpt"), tokenizer, processes=3)


def test_a_process_that_is_killed_is_an_error(
    make_config: MakeConfig, tokenizer: Tokenizer, weaknesses: Rows, tmp_path: Path, write_function: WriteFunction
) -> None:
    body = f"    if record['id'] == 'last' and os.getpid() != {os.getpid()}: os.kill(os.getpid(), signal.SIGKILL)"
    records = [*weaknesses * 3, {"id": "last", "text": "the last"}]
    config = make_config(records, method="cpt", plugin=write_function(body))
    with pytest.raises(OutOfMemoryError, match="a process that tokenizes was killed"):
        data.prepare(config, tokenizer, processes=2)
    assert list((tmp_path / "cache/data").glob("[!.]*")) == []


def test_chunks_end_by_size_too() -> None:
    big = Record({"text": "x" * (1 << 20)}, "f", 1)
    small = Record({"text": "x"}, "f", 1)
    assert [len(chunk) for chunk in parallel.chunked([small] * 300 + [big, small])] == [256, 45, 1]
