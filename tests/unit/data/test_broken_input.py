"""What libraries raise over records, templates and tokenizers is the input's fault, with its place and a remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from transformers import PreTrainedTokenizerFast

from tests.unit.data.conftest import MakeConfig
from zerotune_trainer import data
from zerotune_trainer.config.sources import Model
from zerotune_trainer.data.__main__ import main
from zerotune_trainer.data.tokenizer import load_tokenizer
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError

QUESTION = {"messages": [{"role": "user", "content": "what?"}, {"role": "assistant", "content": "that"}]}


@pytest.mark.parametrize(
    "expression", ["m.content.split('')", "1 // 0", "m.content + 1", "range(10 ** 9)", "m.content.nope()"]
)
def test_whatever_python_raises_in_a_template_names_the_record(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, expression: str
) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ " + expression + " }}{% endfor %}"
    with pytest.raises(DataError, match=r"train\.jsonl:1: the chat template rejects it: ") as rejected:
        data.prepare(make_config([QUESTION]), tokenizer)
    assert "model.chatTemplate" in rejected.value.hint


def test_named_chat_templates_without_a_default_are_listed(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer.chat_template = {"tool_use": "x", "rag": "y"}
    with pytest.raises(ConfigurationError, match="named rag, tool_use, and none named default") as rejected:
        data.prepare(make_config([QUESTION]), tokenizer)
    assert "model.chatTemplate" in rejected.value.hint


def of_a_newer_version(folder: Path) -> None:
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    info["features"]["text"] = {"_type": "Text2", "dtype": "string"}
    path.write_text(json.dumps(info))


def torn_state(folder: Path) -> None:
    path = folder / "state.json"
    path.write_text(path.read_text()[:40])


def empty_info(folder: Path) -> None:
    (folder / "dataset_info.json").write_text("{}\n[]")


def torn_rows(folder: Path) -> None:
    path = next(folder.glob("*.arrow"))
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize("spoil", [of_a_newer_version, torn_state, empty_info, torn_rows])
def test_a_datasets_folder_that_does_not_load_is_bad_data(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    folder = tmp_path / "rows"
    datasets.Dataset.from_list([{"text": f"text {number}"} for number in range(8)]).save_to_disk(str(folder))
    spoil(folder)
    with pytest.raises(DataError) as rejected:
        data.prepare(make_config(folder), tokenizer)
    assert str(folder) in rejected.value.message
    assert rejected.value.hint


@pytest.mark.parametrize(
    "record",
    [
        {"input_ids": 5},
        {"input_ids": "1 2 3"},
        {"input_ids": []},
        {"input_ids": {"a": 1}},
        {"input_ids": [1.0, 2.0, 3.5]},
        {"input_ids": [[1, 2], [3]]},
        {"input_ids": [7, None, 9]},
        {"input_ids": [7, True, 9]},
        {"input_ids": [7, -1, 9]},
        {"input_ids": [7, 8, 10**9]},
        {"input_ids": [7, 8, 9], "labels": 1},
        {"input_ids": [7, 8, 9], "labels": [7, "8", 9]},
        {"input_ids": [7, 8, 9], "labels": [7, 8]},
    ],
)
def test_token_ids_that_are_none_name_the_record(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, record: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl:2: "):
        data.prepare(make_config([{"input_ids": [7, 8, 9]}, record]), tokenizer)


def unknown_model(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"] = {"type": "BPE2", "vocab": {}}
    path.write_text(json.dumps(content))


def torn_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def listed_config(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("[]")


def pointer_of_lfs(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


@pytest.mark.parametrize("spoil", [unknown_model, torn_tokenizer, listed_config, pointer_of_lfs])
def test_a_tokenizer_that_does_not_load_is_the_folders_fault(
    tokenizer_folder: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in tokenizer_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    spoil(folder)
    with pytest.raises(ConfigurationError, match=r"the tokenizer in .* cannot be loaded: ") as rejected:
        load_tokenizer(Model(), folder)
    assert ("tokenizer.json: it is a pointer of Git LFS" if spoil is pointer_of_lfs else "newer") in rejected.value.hint


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(InputMissingError, match="holds no tokenizer"):
        load_tokenizer(Model(), tmp_path)


def test_the_preview_command_reports_what_it_cannot_read(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config([QUESTION])
    config.model.chat_template = "{% for m in messages %}{{ m.content.split('') }}{% endfor %}"
    (tmp_path / "config.json").write_text(config.model_dump_json(by_alias=True))
    assert main(["prepare", str(tmp_path), str(tmp_path / "rows")]) == 65
    assert "error: " in (printed := capsys.readouterr().err)
    assert "hint: " in printed
    assert "Traceback" not in printed


@pytest.mark.slow
def test_the_preview_command_says_where_it_cannot_write(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(make_config([QUESTION]).model_dump_json(by_alias=True))
    command = [sys.executable, "-m", "zerotune_trainer.data", "prepare", str(tmp_path), "/proc/rows"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
