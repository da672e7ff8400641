"""Rows are kept by what they were made of: nothing is tokenized twice, nothing stale is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from zerotune_trainer import data
from zerotune_trainer.config import TrainConfig

MakeConfig = Callable[..., TrainConfig]
Tokenizer = PreTrainedTokenizerFast
LoggingFunction = Callable[..., dict[str, str]]


def test_the_same_content_is_tokenized_once_wherever_it_lies(
    make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path, logging_function: LoggingFunction
) -> None:
    log = tmp_path / "log"
    records = [{"text": "one"}, {"text": "two"}]
    function = logging_function(log)

    def calls(config: TrainConfig, given: Tokenizer = tokenizer) -> int:
        log.write_text("")
        data.prepare(config, given)
        return len(log.read_text().splitlines())

    # The first record is processed before the others, so there is a call more than records.
    config = make_config(records, plugin=function)
    assert calls(config) == 3
    assert calls(config) == 0
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes((tmp_path / "train.jsonl").read_bytes())
    assert calls(make_config(copy, plugin=function)) == 0
    assert calls(make_config(copy, plugin=function, packing="wrapped")) == 3
    assert calls(make_config(copy, plugin=function, packing="bfd_split")) == 0
    copy.write_text('{"text": "one"}\n{"text": "six"}\n')
    assert calls(make_config(copy, plugin=function)) == 3
    again = logging_function(log, "\n    record['text'] += '!'")
    assert calls(make_config(copy, plugin=again)) == 3
    tokenizer.chat_template = "{{ messages }}"
    assert calls(make_config(copy, plugin=again)) == 3
    assert calls(make_config(copy, plugin=again, maxLength=16)) == 3


def test_a_file_that_changes_size_is_read_again(make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    config = make_config([{"text": "one"}])
    assert len(data.prepare(config, tokenizer).train) == 1
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "one"}) + "\n" + json.dumps({"text": "two"}) + "\n")
    assert len(data.prepare(config, tokenizer).train) == 2
