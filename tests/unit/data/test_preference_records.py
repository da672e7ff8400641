"""Preference records in every format of TRL, as the sequences that are trained on; and those that are no good."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tests.unit.data.conftest import MakeConfig
from tests.unit.data.test_loss_tokens import shown
from zerotune_trainer import data
from zerotune_trainer.errors import DataError, InputMissingError, ZerotuneError

Tokenizer = PreTrainedTokenizerFast

TOOLS = (
    "{{ bos_token }}{% if tools %}<|im_start|>tools\n{{ tools[0].function.name }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}{{ call.function.name }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {"prompt": "What is CWE-79?", "chosen": " Cross-site scripting.", "rejected": " A buffer."}
JOINED = {"chosen": "What is CWE-79? Cross-site scripting.", "rejected": "What is CWE-79? A buffer."}
SYSTEM, QUESTION = {"role": "system", "content": "Be short."}, {"role": "user", "content": "What is CWE-79?"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("Cross-site scripting.", "A buffer."))
CHAT = {"prompt": [SYSTEM, QUESTION], "chosen": [GOOD], "rejected": [BAD]}
OPENING = "<s><|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nWhat is CWE-79?<|im_end|>\n"
ANSWER = "<|im_start|>assistant\n"
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "look_up"}}]}


def sequences(rows: Any, tokenizer: Tokenizer) -> list[tuple[str, list[str]]]:
    """The sequences of rows: their text, and the runs of it that count in the loss."""
    found = []
    for row in rows:
        start = 0
        for size in row["seq_lengths"] if "seq_lengths" in row else [len(row["input_ids"])]:
            part = slice(start, start + size)
            found.append(shown(row["input_ids"][part].tolist(), row["labels"][part].tolist(), tokenizer))
            start += size
    return found


def prepared(make_config: MakeConfig, tokenizer: Tokenizer, record: dict[str, Any], method: str = "dpo") -> Any:
    return data.prepare(make_config([record], method=method), tokenizer, processes=1).train


@pytest.mark.parametrize("method", ["dpo", "orpo"])
@pytest.mark.parametrize("record", [TEXT, JOINED], ids=["explicit prompt", "implicit prompt"])
def test_text_has_its_prompt_once_and_loss_on_the_completion(
    make_config: MakeConfig, tokenizer: Tokenizer, record: dict[str, Any], method: str
) -> None:
    found = sequences(prepared(make_config, tokenizer, record, method), tokenizer)
    assert found == [
        (f"<s>What is CWE-79?{answer}</s>", [f"{answer}</s>"]) for answer in (TEXT["chosen"], TEXT["rejected"])
    ]


@pytest.mark.parametrize(
    "record",
    [CHAT, {"chosen": [SYSTEM, QUESTION, GOOD], "rejected": [SYSTEM, QUESTION, BAD]}],
    ids=["explicit prompt", "implicit prompt"],
)
def test_messages_go_through_the_chat_template_with_their_system_turn(
    make_config: MakeConfig, tokenizer: Tokenizer, record: dict[str, Any]
) -> None:
    found = sequences(prepared(make_config, tokenizer, record), tokenizer)
    for (text, runs), answer in zip(found, (GOOD, BAD), strict=True):
        assert text.startswith(f"{OPENING}{ANSWER}{answer['content']}<|im_end|>")
        assert text.count("<s>") == 1
        assert len(runs) == 1
        assert runs[0].startswith(f"{answer['content']}<|im_end|>")


def test_a_prompt_of_text_before_messages_is_one_of_the_user(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    record = {"prompt": QUESTION["content"], "chosen": [GOOD], "rejected": [BAD]}
    as_messages = CHAT | {"prompt": [QUESTION]}
    found, expected = (sequences(prepared(make_config, tokenizer, each), tokenizer) for each in (record, as_messages))
    assert found == expected


def test_tools_and_tool_calls_reach_the_template(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    tokenizer.chat_template = TOOLS
    tools = [{"type": "function", "function": {"name": "look_up", "description": "", "parameters": {}}}]
    record = {"prompt": [QUESTION], "chosen": [CALL], "rejected": [BAD], "tools": tools}
    chosen, rejected = sequences(prepared(make_config, tokenizer, record), tokenizer)
    assert chosen[0].startswith("<s><|im_start|>tools\nlook_up<|im_end|>\n")
    assert chosen[1][0].startswith("look_up<|im_end|>")
    assert rejected[1][0].startswith("A buffer.<|im_end|>")


@pytest.mark.parametrize("label", [True, False, 1, 0])
def test_kto_takes_a_completion_with_its_label(make_config: MakeConfig, tokenizer: Tokenizer, label: Any) -> None:
    record = {"prompt": TEXT["prompt"], "completion": TEXT["chosen"], "label": label}
    rows = prepared(make_config, tokenizer, record, "kto")
    assert bool(rows[0]["desirable"][0]) == bool(label)
    # Behind it is another's completion, of which there is none here.
    assert sequences(rows, tokenizer)[0] == (f"<s>{TEXT['prompt']}{TEXT['chosen']}</s>", [f"{TEXT['chosen']}</s>"])


def test_kto_takes_a_pair_as_a_good_and_a_bad_completion(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    rows = prepared(make_config, tokenizer, TEXT, "kto")
    assert [bool(row["desirable"][0]) for row in rows] == [True, False]


JUDGED = {"prompt": "p", "completion": " c", "label": True}


@pytest.mark.parametrize(("label", "good"), [("True", True), ("1", True), (" false", False), ("0", False), (0, False)])
def test_labels_may_be_texts_as_in_csv(make_config: MakeConfig, tokenizer: Tokenizer, label: Any, good: bool) -> None:
    [row] = prepared(make_config, tokenizer, JUDGED | {"label": label}, "kto")
    assert bool(row["desirable"][0]) is good


NO_GOOD: list[tuple[str, dict[str, Any], type[ZerotuneError], str]] = [
    ("dpo", TEXT | {"rejected": TEXT["chosen"]}, DataError, "'chosen' and 'rejected' are the same"),
    ("kto", TEXT | {"rejected": TEXT["chosen"]}, DataError, "'chosen' and 'rejected' are the same"),
    ("dpo", CHAT | {"rejected": [GOOD]}, DataError, "'chosen' and 'rejected' are the same"),
    ("dpo", TEXT | {"rejected": ""}, DataError, "column 'rejected' is empty"),
    ("dpo", TEXT | {"chosen": None}, DataError, "column 'chosen' is null"),
    ("dpo", CHAT | {"chosen": []}, DataError, "chosen"),
    ("dpo", {"prompt": "p", "chosen": "c"}, InputMissingError, "reads the columns chosen and rejected"),
    ("dpo", TEXT | {"rejected": [BAD]}, DataError, "'chosen' and 'rejected' hold str and list"),
    ("dpo", {"chosen": "a b", "rejected": "c d"}, DataError, "have no prompt in common"),
    ("kto", JUDGED | {"label": "yes"}, DataError, "'yes', which is neither true nor false"),
    ("kto", JUDGED | {"label": "2"}, DataError, "'2', which is neither true nor false"),
    ("dpo", CHAT | {"chosen": [QUESTION]}, DataError, "'chosen' begins with a message of role 'user'"),
    ("kto", JUDGED | {"label": 2}, DataError, "2, which is neither true nor false"),
    ("kto", JUDGED | {"label": None}, DataError, "column 'label' is null"),
    ("kto", {"prompt": "p", "completion": " c"}, InputMissingError, "prompt, completion and label"),
    ("orpo", JUDGED, InputMissingError, "reads the columns chosen and rejected"),
]


@pytest.mark.parametrize(("method", "record", "error", "message"), NO_GOOD)
def test_a_bad_record_is_named_with_its_line_and_a_remedy(
    make_config: MakeConfig,
    tokenizer: Tokenizer,
    method: str,
    record: dict[str, Any],
    error: type[ZerotuneError],
    message: str,
) -> None:
    with pytest.raises(error) as rejected:
        prepared(make_config, tokenizer, record, method)
    assert message in rejected.value.message
    assert "train.jsonl:1" in rejected.value.message
    assert rejected.value.hint


def test_a_long_prompt_loses_its_beginning_and_a_long_completion_nothing(
    make_config: MakeConfig, tokenizer: Tokenizer
) -> None:
    long = TEXT | {"prompt": "What is it? " * 40}
    rows = data.prepare(make_config([long], method="dpo", maxLength=32, overflow="truncate"), tokenizer, processes=1)
    for (text, runs), answer in zip(sequences(rows.train, tokenizer), ("chosen", "rejected"), strict=True):
        assert text.endswith(f"{TEXT[answer]}</s>")
        assert runs == [f"{TEXT[answer]}</s>"]
    size = len(tokenizer(long["prompt"] + max(TEXT["chosen"], TEXT["rejected"], key=len))["input_ids"])
    for longest in (32, 40):
        with pytest.raises(DataError) as rejected:
            data.prepare(make_config([long], method="dpo", maxLength=longest), tokenizer, processes=1)
        counted = int(rejected.value.message.split("train.jsonl:1: ")[1].split(" tokens are more than")[0])
        assert abs(counted - size) <= 2, "the whole record is counted, whatever is allowed"
        assert "preference.maxPromptLength" in rejected.value.hint


def test_a_record_whose_completion_leaves_no_room_is_skipped(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    long = TEXT | {"rejected": " It is a buffer." * 40}
    config = make_config([long, TEXT], method="dpo", maxLength=32, overflow="truncate")
    rows = data.prepare(config, tokenizer, processes=1)
    assert len(rows.train) == 1
