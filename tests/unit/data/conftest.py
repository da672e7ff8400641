"""Real text (the CWE catalogue of the package cwe2), and a byte-level BPE that was trained on it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cwe2
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from zerotune_trainer.config import TrainConfig

CHATML = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{{ '\\n' }}"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML that writes BOS and says itself what the assistant generates."""

SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def catalogue() -> list[dict[str, str]]:
    path = Path(cwe2.__file__).parent / "database_v49/navigate_cwe/699.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def weaknesses() -> list[dict[str, str]]:
    """300 weaknesses: `id`, `name`, `text` (some sentences; one has more than thousand tokens)."""
    return [
        {
            "id": row["CWE-ID"],
            "name": row["Name"],
            "text": f"{row['Name']}\n{row['Description']} {row['Extended Description']}",
        }
        for row in catalogue()[:300]
    ]


@pytest.fixture(scope="session")
def tokenizer_folder(weaknesses: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as a model's folder holds it. Like Llama's it writes BOS before a text and no EOS after it."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=800, special_tokens=SPECIAL, initial_alphabet=alphabet)
    bpe.train_from_iterator((row["text"] for row in weaknesses), trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = CHATML
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> PreTrainedTokenizerFast:
    """A tokenizer whose pad token is its EOS token, as so often."""
    loaded = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    return loaded


MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def make_config(tmp_path: Path, tokenizer_folder: Path) -> MakeConfig:
    """A TrainConfig over some records, with fields of `data` as the spec names them; `cache` names a folder."""

    def make(
        records: list[dict[str, Any]] | Path,
        *,
        method: str = "sft",
        cache: str = "cache",
        plugin: dict[str, Any] | None = None,
        evaluation: dict[str, Any] | None = None,
        **data: Any,
    ) -> TrainConfig:
        path = records if isinstance(records, Path) else write_jsonl(tmp_path / "train.jsonl", records)
        return TrainConfig.model_validate(
            {
                "job": {"kind": "FineTuneJob", "name": "job", "uid": "1"},
                "launch": {"cacheDir": str(tmp_path / cache)},
                "model": {"uri": f"file://{tokenizer_folder}"},
                "output": {},
                "method": method,
                "plugin": plugin,
                "data": {"train": {"uris": [f"file://{path}"]}, **data},
                "training": {"seed": 7},
                "checkpoint": {},
                "evaluation": evaluation or {},
            }
        )

    return make


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def write_function(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Write a processing function with this body; gives it as the spec names it."""

    def write(body: str) -> dict[str, str]:
        path = tmp_path / "processing.py"
        path.write_text(f"import os, signal, time\n\n\ndef process(record):\n{body}\n    return record\n")
        return {"file": f"file://{path}", "processing": "process"}

    return write


@pytest.fixture
def logging_function(write_function: Callable[[str], dict[str, str]]) -> Callable[..., dict[str, str]]:
    """Write a processing function that notes the text of every record it is called for, and does some more."""

    def write(log: Path, more: str = "") -> dict[str, str]:
        return write_function(
            f"    open({str(log)!r}, 'a').write(record['text'] + '\\n')\n    record['text'] += '!'{more}"
        )

    return write


@pytest.fixture
def listed() -> Callable[[Any], list[dict[str, Any]]]:
    """Makes rows comparable."""
    return lambda dataset: [{name: value.tolist() for name, value in row.items()} for row in dataset]
