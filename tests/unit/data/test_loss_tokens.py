"""What of a record is trained on: special tokens once, the right labels, for every way records are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast

from zerotune_trainer import data
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data.tokenizer import load_tokenizer
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError, ZerotuneError

MakeConfig = Callable[..., TrainConfig]
Tokenizer = PreTrainedTokenizerFast

CHATML_UNMARKED = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_BOS = CHATML_UNMARKED.replace("{{ bos_token }}", "")
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role != 'assistant' or loop.last %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRICT = "{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}" + CHATML_UNMARKED

TALK = [
    {"role": "user", "content": "What is CWE-79?"},
    {"role": "assistant", "content": "Cross-site scripting."},
    {"role": "user", "content": "And CWE-89?"},
    {"role": "assistant", "content": "SQL injection, \n"},
]
TALK_TEXT = (
    "<s><|im_start|>user\nWhat is CWE-79?<|im_end|>\n<|im_start|>assistant\nCross-site scripting.<|im_end|>\n"
    "<|im_start|>user\nAnd CWE-89?<|im_end|>\n<|im_start|>assistant\nSQL injection, \n<|im_end|>\n"
)


def rows(config: TrainConfig, tokenizer: Tokenizer) -> list[tuple[str, list[str]]]:
    """Each row as its text, and the runs of it that count in the loss."""
    return [shown(row["input_ids"].tolist(), row["labels"].tolist(), tokenizer) for row in prepared(config, tokenizer)]


def prepared(config: TrainConfig, tokenizer: Tokenizer) -> Any:
    return data.prepare(config, tokenizer, processes=1).train


def shown(ids: list[int], labels: list[int], tokenizer: Tokenizer) -> tuple[str, list[str]]:
    assert len(ids) == len(labels)
    runs: list[list[int]] = []
    for number, (token, label) in enumerate(zip(ids, labels, strict=True)):
        assert label in (token, -100)
        if label != -100:
            if not number or labels[number - 1] == -100:
                runs.append([])
            runs[-1].append(token)
    return str(tokenizer.decode(ids)), [str(tokenizer.decode(run)) for run in runs]


@pytest.mark.parametrize("method", ["cpt", "sft"])
@pytest.mark.parametrize("text", ["one line", "<s>one line", "one line</s>", "<s>one line</s>"])
def test_d14_d16_a_text_has_bos_and_eos_once_and_eos_is_trained(
    make_config: MakeConfig, tokenizer: Tokenizer, method: str, text: str
) -> None:
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    config = make_config([{"text": text}], method=method)
    assert rows(config, tokenizer) == [("<s>one line</s>", ["<s>one line</s>"])]


def test_r32_text_is_read_from_a_named_column(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    config = make_config([{"text": "not this", "body": "this"}], columns={"text": "body"})
    assert rows(config, tokenizer) == [("<s>this</s>", ["<s>this</s>"])]


@pytest.mark.parametrize("template", [None, CHATML_UNMARKED])
def test_d14_a_template_that_writes_bos_gets_no_other(
    make_config: MakeConfig, tokenizer: Tokenizer, template: str | None
) -> None:
    tokenizer.chat_template = template or tokenizer.chat_template
    assert rows(make_config([{"messages": TALK}]), tokenizer) == [(TALK_TEXT, [TALK_TEXT])]


def test_a_template_without_bos_is_trained_as_it_will_be_prompted(
    make_config: MakeConfig, tokenizer: Tokenizer
) -> None:
    tokenizer.chat_template = NO_BOS
    row = prepared(make_config([{"messages": TALK}]), tokenizer)[0]
    prompted: Any = tokenizer.apply_chat_template(TALK, tokenize=True)
    assert row["input_ids"].tolist() == prompted["input_ids"]


ANSWERS = ["Cross-site scripting.<|im_end|>", "SQL injection, \n<|im_end|>"]


@pytest.mark.parametrize("template", [None, CHATML_UNMARKED], ids=["generation marks", "turn by turn"])
def test_assistant_loss_is_the_same_with_marks_and_turn_by_turn(
    make_config: MakeConfig, tokenizer: Tokenizer, template: str | None
) -> None:
    tokenizer.chat_template = template or tokenizer.chat_template
    config = make_config([{"messages": TALK}], loss="assistant")
    assert rows(config, tokenizer) == [(TALK_TEXT, ANSWERS)]


def test_a_template_that_rewrites_earlier_turns_is_rejected(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    tokenizer.chat_template = FORGETFUL
    with pytest.raises(ConfigurationError, match=r"train.jsonl:1: .* message 1 differently") as caught:
        rows(make_config([{"messages": TALK}], loss="assistant"), tokenizer)
    assert "{% generation %}" in caught.value.hint


def test_r34_system_prompt_only_where_there_is_none_and_generation_prompt(
    make_config: MakeConfig, tokenizer: Tokenizer
) -> None:
    system = {"role": "system", "content": "Own."}
    records = [{"messages": TALK[:2]}, {"messages": [system, *TALK[:2]]}]
    config = make_config(records, systemPrompt="Be brief.", addGenerationPrompt=True, loss="assistant")
    turns = TALK_TEXT[3 : TALK_TEXT.index("<|im_start|>user\nAnd")]
    assert rows(config, tokenizer) == [
        (f"<s><|im_start|>system\n{text}<|im_end|>\n{turns}<|im_start|>assistant\n", ANSWERS[:1])
        for text in ("Be brief.", "Own.")
    ]


def test_r34_a_chat_template_of_the_spec_replaces_that_of_the_tokenizer(
    make_config: MakeConfig, tokenizer_folder: Path
) -> None:
    """An empty one does, too: it is not the same as none."""
    model = make_config([{"messages": TALK}]).model
    own = load_tokenizer(model, tokenizer_folder)
    given = load_tokenizer(model.model_copy(update={"chat_template": NO_BOS}), tokenizer_folder)
    empty = load_tokenizer(model.model_copy(update={"chat_template": ""}), tokenizer_folder)
    texts = [tokenizer.apply_chat_template(TALK, tokenize=False) for tokenizer in (own, given, empty)]
    assert texts == [TALK_TEXT, TALK_TEXT.removeprefix("<s>"), ""]


def test_completion_loss_for_text_pairs(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    config = make_config([{"prompt": "Name CWE-79:", "completion": " cross-site scripting"}])
    text = "<s>Name CWE-79: cross-site scripting</s>"
    assert rows(config, tokenizer) == [(text, [" cross-site scripting</s>"])]
    everything = config.model_copy(update={"data": config.data.model_copy(update={"loss": "all"})})
    assert rows(everything, tokenizer) == [(text, [text])]


def test_a_prompt_keeps_the_tokens_that_generation_will_see(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    prompt = tokenizer("Use of th")["input_ids"]
    assert tokenizer("Use of the")["input_ids"][: len(prompt)] != prompt
    row = prepared(make_config([{"prompt": "Use of th", "completion": "e"}]), tokenizer)[0]
    assert row["input_ids"].tolist()[: len(prompt)] == prompt
    assert row["labels"].tolist() == [-100] * len(prompt) + row["input_ids"].tolist()[len(prompt) :]
    assert tokenizer.decode(row["input_ids"]) == "<s>Use of the</s>"


@pytest.mark.parametrize(
    ("loss", "counted"), [(None, [ANSWERS[1] + "\n"]), ("assistant", ANSWERS), ("all", [TALK_TEXT])]
)
def test_d15_pairs_of_messages_hold_the_prompt_once(
    make_config: MakeConfig, tokenizer: Tokenizer, loss: str | None, counted: list[str]
) -> None:
    config = make_config([{"q": TALK[:3], "a": TALK[3:]}], columns={"prompt": "q", "completion": "a"}, loss=loss)
    assert rows(config, tokenizer) == [(TALK_TEXT, counted)]


CASES: dict[str, tuple[str, str | None, str, list[str]]] = {
    "last answer": ("Q: a\nA: b\nQ: c\nA: d", None, "\nA:", [" d</s>"]),
    "all answers": ("Q: a\nA: b\nQ: c\nA: d", "\nQ:", "\nA:", [" b", " d</s>"]),
    "open question": ("Q: a\nA: b\nQ: c", "\nQ:", "\nA:", [" b"]),
    "quoted": ("A: one A: two\nQ: x\nA: y", "\nQ:", "A:", [" one A: two", " y</s>"]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("as_ids", [False, True], ids=["text", "ids"])
def test_r36_response_and_instruction_templates_as_text_and_as_ids(
    make_config: MakeConfig, tokenizer: Tokenizer, case: str, as_ids: bool
) -> None:
    text, instruction, response, counted = CASES[case]

    templates: dict[str, Any] = {"responseTemplate": response, "instructionTemplate": instruction}
    if as_ids:
        templates = {
            f"{name}Ids": tokenizer(template, add_special_tokens=False)["input_ids"]
            for name, template in templates.items()
            if template
        }
    config = make_config([{"text": text}], loss="assistant", **templates)
    assert [row[1] for row in rows(config, tokenizer)] == [counted]


def test_tokenized_records_are_taken_as_they_are(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    records = [{"input_ids": [0, 5, 6, 7], "labels": [-100, -100, 6, 7]}, {"input_ids": [0, 9], "labels": [0, 9]}]
    found = [{name: row[name].tolist() for name in row} for row in prepared(make_config(records), tokenizer)]
    assert found == records
    without = prepared(make_config([{"input_ids": [0, 5]}]), tokenizer)[0]
    assert without["labels"].tolist() == [0, 5]


OK = {"text": "fine"}
TURN = {"role": "user", "content": "hi"}
BAD: dict[str, tuple[list[dict[str, Any]], dict[str, Any], type[ZerotuneError], str]] = {
    "null": ([OK, {"text": None}], {}, DataError, r"train.jsonl:2: column 'text' is null"),
    "number": ([OK, {"text": 7}], {}, DataError, r"train.jsonl:2: column 'text' holds int where text is wanted"),
    "empty": ([OK, {"text": " \n"}], {}, DataError, r"train.jsonl:2: column 'text' holds white space"),
    "missing later": ([OK, {"txt": "x"}], {}, InputMissingError, r"train.jsonl:2: no column 'text'"),
    "missing": ([{"body": "x"}], {"columns": {"text": "bodi"}}, InputMissingError, r"train.jsonl:1: no column 'bodi'"),
    "nothing usual": ([{"a": 1, "b": 2}], {}, InputMissingError, r"train.jsonl:1: none of the columns 'a', 'b'"),
    "no messages": ([{"messages": []}], {}, DataError, r"train.jsonl:1: column 'messages' is no list of messages"),
    "no role": ([{"messages": [{"content": "x"}]}], {}, DataError, r"train.jsonl:1: message 0 of column 'messages'"),
    "no text": ([{"messages": [TURN, {"role": "user"}]}], {}, DataError, r"train.jsonl:1: message 1 of"),
    "no answer": ([{"messages": [TURN]}], {"loss": "assistant"}, DataError, r"train.jsonl:1: no.* counts in the loss"),
    "no match": (
        [{"text": "A: x"}, OK],
        {"loss": "assistant", "responseTemplate": "A:"},
        DataError,
        r"train.jsonl:2: nothing of the record counts in the loss",
    ),
    "mixed pair": ([{"prompt": [TURN], "completion": "x"}], {}, DataError, r"column 'prompt' holds list"),
    "foreign token": ([{"input_ids": [1, 99999]}], {}, DataError, r"train.jsonl:1: 99999 in input_ids is no token"),
    "odd labels": ([{"input_ids": [1, 2], "labels": [1]}], {}, DataError, r"2 input_ids and 1 labels"),
    "masked": ([{"input_ids": [1], "labels": [-100]}], {}, DataError, r"train.jsonl:1: no token of the record counts"),
    "completion of text": ([OK], {"loss": "completion"}, ConfigurationError, "needs columns prompt and completion"),
    "assistant of text": ([OK], {"loss": "assistant"}, ConfigurationError, "needs data.responseTemplate"),
    "assistant of pairs": (
        [{"prompt": "x", "completion": "y"}],
        {"loss": "assistant"},
        ConfigurationError,
        "needs conversations",
    ),
    "system prompt for text": ([OK], {"systemPrompt": "x"}, ConfigurationError, "are for conversations"),
    "system prompt for tokens": (
        [{"input_ids": [1, 5]}],
        {"systemPrompt": "x"},
        ConfigurationError,
        "the records are tokens already, and data.systemPrompt",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_fails_the_job_and_is_named(make_config: MakeConfig, tokenizer: Tokenizer, case: str) -> None:
    records, options, error, message = BAD[case]
    with pytest.raises(error, match=message) as caught:
        rows(make_config(records, **options), tokenizer)
    assert caught.value.hint


def test_a_missing_column_lists_those_there_are(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    with pytest.raises(InputMissingError) as caught:
        rows(make_config([{"description": "x", "id": 1}], columns={"text": "descripton"}), tokenizer)
    assert caught.value.hint == "did you mean 'description'? There are 'description', 'id'"


def test_a_tokenizer_without_chat_template(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    tokenizer.chat_template = None
    with pytest.raises(ConfigurationError, match="no chat template") as caught:
        rows(make_config([{"messages": TALK}]), tokenizer)
    assert "model.chatTemplate" in caught.value.hint


def test_a_conversation_the_template_rejects(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    tokenizer.chat_template = STRICT
    with pytest.raises(DataError, match=r"train.jsonl:2: the chat template rejects it: user first"):
        rows(make_config([{"messages": TALK}, {"messages": TALK[1:]}]), tokenizer)


def test_a_template_that_cannot_be_read(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    tokenizer.chat_template = "{% for m in messages %}"
    with pytest.raises(ConfigurationError, match="the chat template cannot be read"):
        rows(make_config([{"messages": TALK}]), tokenizer)


def test_a_tokenizer_without_eos(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    tokenizer.eos_token = None
    with pytest.raises(ConfigurationError, match="no EOS token"):
        rows(make_config([OK]), tokenizer)


@pytest.mark.parametrize("options", [{"padding": "False"}, {"packing": "True"}, {"overflow": "drop"}])
def test_d24_an_option_in_the_wrong_form_is_rejected_before_any_data(
    make_config: MakeConfig, options: dict[str, str]
) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        make_config([OK], **options)
