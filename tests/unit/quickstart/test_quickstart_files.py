from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from catalogue import LONGEST_ANSWER, as_text, questions, read_catalogue, split
from prepare import HELD_OUT, prepare
from small_model import CONTEXT, END, VOCABULARY
from transformers import AutoModelForCausalLM, AutoTokenizer

from zerotune_operator.api.jobs import FineTuneJob, InferenceJob
from zerotune_operator.api.load import load_jobs

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[3] / "examples" / "quickstart"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quickstart")
    prepare(folder)
    return folder


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_weakness_reads_as_text_and_answers_questions() -> None:
    (scripting,) = [weakness for weakness in read_catalogue() if weakness.number == 79]
    text = as_text(scripting)
    assert text.startswith(
        "CWE-79: Improper Neutralization of Input During Web Page Generation ('Cross-site Scripting')\n\n"
        "Description: The product does not neutralize or incorrectly neutralizes user-controllable input before it"
    )
    assert "\n\nIntroduced during:\n- Implementation\n\nConsequences:\n- Access Control, Confidentiality: " in text
    asked = dict(questions(scripting))
    called = f"CWE-79 ({scripting.name})"
    assert asked[f"What is {called}?"] == scripting.description
    assert asked[f"When is {called} introduced?"] == "During Implementation."
    assert len(asked) == 4


def test_catalogue_is_whole_and_without_deprecated_entries() -> None:
    weaknesses = read_catalogue()
    assert len(weaknesses) == len({weakness.number for weakness in weaknesses}) == 938
    assert not [weakness for weakness in weaknesses if not weakness.description or "  " in as_text(weakness)]


def test_what_is_held_out_is_not_trained_on(work: Path) -> None:
    train, held_out = split(read_catalogue(), HELD_OUT)
    assert len(held_out) == HELD_OUT and not {w.number for w in train} & {w.number for w in held_out}
    data = work / "data"
    assert [record["text"] for record in records(data / "cpt-validation.jsonl")] == [as_text(w) for w in held_out]
    trained = {turn["content"] for record in records(data / "sft-train.jsonl") for turn in record["messages"]}
    asked = records(data / "questions.jsonl")
    assert len(asked) > 3 * HELD_OUT
    assert not trained & {record["question"] for record in asked}
    assert max(len(record["reference"]) for record in asked) <= LONGEST_ANSWER


def test_terms_of_use_lie_beside_the_data(work: Path) -> None:
    notice = (work / "data" / "NOTICE").read_text(encoding="utf-8")
    assert "The MITRE Corporation" in notice and "https://cwe.mitre.org/about/termsofuse.html" in notice
    assert "MITRE hereby grants you a non-exclusive, royalty-free license to use" in notice


def test_model_and_tokenizer_fit_each_other_and_the_data(work: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    model = AutoModelForCausalLM.from_pretrained(work / "model")
    assert len(tokenizer) == model.config.vocab_size == VOCABULARY
    assert (model.config.eos_token_id, model.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    text = records(work / "data" / "cpt-validation.jsonl")[0]["text"]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    messages = [record["messages"] for record in records(work / "data" / "sft-train.jsonl")]
    encoded = [tokenizer.apply_chat_template(turns, return_dict=True) for turns in messages]
    assert max(len(row["input_ids"]) for row in encoded) <= CONTEXT // 2


def test_only_the_answer_and_its_end_are_marked_for_the_loss(work: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    turns = [{"role": "user", "content": "What is CWE-1?"}, {"role": "assistant", "content": "A weakness."}]
    row = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    marked = [token for token, mark in zip(row["input_ids"], row["assistant_masks"], strict=True) if mark]
    assert tokenizer.decode(marked) == f"A weakness.{END}"
    prompt = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, tokenize=False)
    assert prompt == f"<|user|>What is CWE-1?{END}<|assistant|>"


def test_preparing_again_changes_nothing(work: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*")}
    prepare(work)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*")} == before


def test_manifests_follow_from_each_other() -> None:
    (cpt,), (sft,), (ask,) = (load_jobs(FOLDER / name) for name in ("cpt.yaml", "sft.yaml", "ask.yaml"))
    assert isinstance(cpt, FineTuneJob) and isinstance(sft, FineTuneJob) and isinstance(ask, InferenceJob)
    assert (cpt.spec.topology.nodes, sft.spec.topology.nodes) == (2, 2)
    assert sft.spec.model.from_fine_tune_job == cpt.metadata.name
    assert ask.spec.model.from_fine_tune_job == sft.metadata.name
