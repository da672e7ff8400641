"""A function of the user that makes the records, and what is reported where it fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from zerotune_trainer import data
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.errors import ConfigurationError, InputMissingError, ZerotuneError
from zerotune_trainer.plugin import PluginError

MakeConfig = Callable[..., TrainConfig]
Tokenizer = PreTrainedTokenizerFast
WriteFunction = Callable[[str], dict[str, str]]


def test_r32_a_function_of_the_user_makes_the_records(
    make_config: MakeConfig, tokenizer: Tokenizer, write_function: WriteFunction
) -> None:
    function = write_function("    record = {'text': f\"{record['cwe']}: {record['name']}\"}")
    config = make_config([{"cwe": 79, "name": "XSS"}], plugin=function)
    row = data.prepare(config, tokenizer).train[0]
    assert tokenizer.decode(row["input_ids"]) == "<s>79: XSS</s>"


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (
            "    record['x'] = record['none']",
            PluginError,
            r"process failed at .*train.jsonl:1: KeyError: 'none' \(line 5\)",
        ),
        ("    return 7", PluginError, r"processing.py:process returned int at .*train.jsonl:1"),
        (
            "    raise SystemExit(3)",
            ConfigurationError,
            r"processing.py:process failed at .*train.jsonl:1: SystemExit: 3",
        ),
        ("    pass\nraise SystemExit(2)\ndef more():", ConfigurationError, r"cannot be executed: SystemExit: 2"),
        ("  syntax error", ConfigurationError, r"processing.py cannot be executed: .*Error"),
    ],
)
def test_a_function_that_fails_is_named_with_the_record(
    make_config: MakeConfig,
    tokenizer: Tokenizer,
    body: str,
    error: type[ZerotuneError],
    message: str,
    write_function: WriteFunction,
) -> None:
    config = make_config([{"text": "x"}], plugin=write_function(body))
    with pytest.raises(error, match=message):
        data.prepare(config, tokenizer)


def test_a_function_that_is_not_there_is_named(
    make_config: MakeConfig, tokenizer: Tokenizer, write_function: WriteFunction
) -> None:
    function = write_function("    pass") | {"processing": "proces"}
    with pytest.raises(InputMissingError, match="defines no 'proces'") as caught:
        data.prepare(make_config([{"text": "x"}], plugin=function), tokenizer)
    assert "did you mean 'process'" in caught.value.hint
