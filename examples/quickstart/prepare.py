"""Makes what the quick start trains on: texts, questions with answers, a tokenizer, a small model with random weights.

python examples/quickstart/prepare.py build/quickstart

data/cpt-train.jsonl  data/cpt-validation.jsonl    {"text": ...}      one weakness a line
data/sft-train.jsonl  data/sft-validation.jsonl    {"messages": ...}  one question with its answer a line
data/dpo-train.jsonl  data/dpo-validation.jsonl    {"prompt", "chosen", "rejected"}   the answer, another's
data/questions.jsonl                               {"question": ..., "reference": ...}, of weaknesses held out
data/NOTICE                                        the terms under which MITRE gives the catalogue
model/                                             a Llama of 1.4 million parameters, and its tokenizer
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from catalogue import LONGEST_ANSWER, Weakness, as_text, questions, read_catalogue, split, terms_of_use
from small_model import save_model

HELD_OUT = 60


def prepare(work: Path) -> None:
    """Write data and model into `work`, unless they are there."""
    if (work / "model").is_dir():
        return
    train, held_out = split(read_catalogue(), HELD_OUT)
    data = work / "data"
    data.mkdir(parents=True, exist_ok=True)
    (data / "NOTICE").write_text(terms_of_use(), encoding="utf-8")
    write_jsonl(data / "cpt-train.jsonl", texts(train))
    write_jsonl(data / "cpt-validation.jsonl", texts(held_out))
    write_jsonl(data / "sft-train.jsonl", conversations(train))
    write_jsonl(data / "sft-validation.jsonl", conversations(held_out))
    write_jsonl(data / "dpo-train.jsonl", preferences(train))
    write_jsonl(data / "dpo-validation.jsonl", preferences(held_out))
    write_jsonl(data / "questions.jsonl", held_out_questions(held_out))
    save_model(work / "model.partial", [as_text(weakness) for weakness in train])
    (work / "model.partial").rename(work / "model")


def texts(weaknesses: list[Weakness]) -> Iterable[dict[str, Any]]:
    """Records for `cpt`."""
    for weakness in weaknesses:
        yield {"text": as_text(weakness)}


def conversations(weaknesses: list[Weakness]) -> Iterable[dict[str, Any]]:
    """Records for `sft`."""
    for question, answer in short_questions(weaknesses):
        yield {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def preferences(weaknesses: list[Weakness]) -> Iterable[dict[str, Any]]:
    """Records for `dpo`: the rejected answer is the one to the question before."""
    asked = list(short_questions(weaknesses))
    for (question, answer), (_, other) in zip(asked[1:], asked, strict=False):
        if answer != other:
            chosen, rejected = ([{"role": "assistant", "content": text}] for text in (answer, other))
            yield {"prompt": [{"role": "user", "content": question}], "chosen": chosen, "rejected": rejected}


def held_out_questions(weaknesses: list[Weakness]) -> Iterable[dict[str, Any]]:
    """Records for the InferenceJob."""
    for question, answer in short_questions(weaknesses):
        yield {"question": question, "reference": answer}


def short_questions(weaknesses: list[Weakness]) -> Iterable[tuple[str, str]]:
    """The questions whose answers are short enough for a small model."""
    for weakness in weaknesses:
        yield from ((ask, answer) for ask, answer in questions(weakness) if len(answer) <= LONGEST_ANSWER)


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line."""
    with path.open("w", encoding="utf-8") as lines:
        for record in records:
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
