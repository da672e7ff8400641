"""Tools, template arguments and weights of messages reach the template and the loss, or the record is rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from tests.unit.data.conftest import CHATML, MakeConfig
from zerotune_trainer import data
from zerotune_trainer.data import time_limit
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError

TALK = [{"role": "user", "content": "what?"}, {"role": "assistant", "content": "that"}]
TOOLS = [{"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}}]
WITH_TOOLS = "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}" + CHATML
WITH_MODE = "{% if mode is defined %}[{{ mode }}]{% endif %}" + CHATML
WITH_CALLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}"
)


def texts(config: Any, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    rows = data.prepare(config, tokenizer, processes=1).train
    return [str(tokenizer.decode(rows[number]["input_ids"].tolist())) for number in range(len(rows))]


@pytest.mark.parametrize("tools", [TOOLS, json.dumps(TOOLS)], ids=["list", "text"])
@pytest.mark.parametrize("column", ["tools", "functions"])
def test_tools_reach_the_template(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, tools: Any, column: str
) -> None:
    tokenizer.chat_template = WITH_TOOLS
    columns = {} if column == "tools" else {"tools": column}
    config = make_config([{"messages": TALK, column: tools}, {"messages": TALK, column: None}], columns=columns)
    with_tools, without = texts(config.model_copy(), tokenizer)
    assert with_tools.startswith("[lookup]")
    assert not without.startswith("[")


def test_tools_that_the_template_does_not_read_are_rejected(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ConfigurationError, match=r"jsonl:1: the chat template does not read 'tools'") as rejected:
        texts(make_config([{"messages": TALK, "tools": TOOLS}]), tokenizer)
    assert "model.chatTemplate" in rejected.value.hint


def test_a_record_for_which_the_template_has_no_end_is_named(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_limit, "SECONDS", 0.2)
    tokenizer.chat_template = CHATML + "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(DataError, match=r"jsonl:1: the chat template rejects it: it has not come to its end after 0.2"):
        texts(make_config([{"messages": TALK}]), tokenizer)


def test_a_named_column_of_tools_must_be_there(make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = WITH_TOOLS
    with pytest.raises(InputMissingError, match="no column 'functions'"):
        texts(make_config([{"messages": TALK}], columns={"messages": "messages", "tools": "functions"}), tokenizer)


@pytest.mark.parametrize("tools", ["[", 5, {"name": "lookup"}])
def test_tools_that_are_no_list_name_the_record(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, tools: Any
) -> None:
    tokenizer.chat_template = WITH_TOOLS
    with pytest.raises(DataError, match="jsonl:1: column 'tools' "):
        texts(make_config([{"messages": TALK, "tools": tools}]), tokenizer)


def test_template_arguments_of_the_job_and_of_the_record(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer.chat_template = WITH_MODE
    records = [{"messages": TALK}, {"messages": TALK, "chat_template_kwargs": {"mode": "own"}}]
    plain, own = texts(make_config(records), tokenizer)
    assert (plain.startswith("["), own.startswith("[own]")) == (False, True)
    job, own = texts(make_config(records, chatTemplateKwargs={"mode": "job"}), tokenizer)
    assert (job.startswith("[job]"), own.startswith("[own]")) == (True, True)


def test_an_argument_that_the_template_does_not_read_is_rejected(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ConfigurationError, match="does not read 'enable_thinking'"):
        texts(make_config([{"messages": TALK}], chatTemplateKwargs={"enable_thinking": False}), tokenizer)


def test_nulls_of_parquet_do_not_reach_the_prompt(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.chat_template = WITH_CALLS
    records = [
        {"messages": [TALK[0], {"role": "assistant", "content": None, "tool_calls": [call(**arguments)]}]}
        for arguments in ({"path": "a.txt"}, {"depth": 2})
    ]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "rows.parquet")
    found = texts(make_config(tmp_path / "rows.parquet"), tokenizer)
    assert found == texts(make_config(records), tokenizer)
    assert 'read{"path": "a.txt"}' in found[0]


def call(**arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "read", "arguments": arguments}}


WEIGHTED = [
    *TALK,
    {"role": "user", "content": "why?"},
    {"role": "assistant", "content": "no", "weight": 0},
    {"role": "user", "content": "so?"},
    {"role": "assistant", "content": "because", "weight": 1},
]


UNMARKED = CHATML.replace("{% generation %}", "").replace("{% endgeneration %}", "")


@pytest.mark.parametrize("template", [CHATML, UNMARKED], ids=["marked", "unmarked"])
def test_an_answer_of_weight_0_does_not_count(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, template: str
) -> None:
    tokenizer.chat_template = template
    row = data.prepare(make_config([{"messages": WEIGHTED}], loss="assistant"), tokenizer, processes=1).train[0]
    counted = str(tokenizer.decode(row["input_ids"][row["labels"] != -100].tolist()))
    assert counted == "that<|im_end|>because<|im_end|>"


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"messages": WEIGHTED}, ConfigurationError),
        ({"prompt": WEIGHTED[:1], "completion": WEIGHTED[3:4]}, ConfigurationError),
        ({"messages": [TALK[0], {**TALK[1], "weight": 0.5}]}, DataError),
    ],
)
def test_a_weight_that_cannot_count_is_rejected(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, record: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=r"train\.jsonl:1: .*weight"):
        texts(make_config([record]), tokenizer)
