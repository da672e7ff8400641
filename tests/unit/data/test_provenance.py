"""Prepared rows say which tokenizer their ids are of: a job with another one does not begin."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tests.unit.data.conftest import write_jsonl
from zerotune_trainer import data
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data.__main__ import main
from zerotune_trainer.errors import ConfigurationError

MakeConfig = Callable[..., TrainConfig]
PAIR = {"prompt": "What is CWE-79?", "completion": " Cross-site scripting"}


@pytest.fixture
def rows(make_config: MakeConfig, tmp_path: Path) -> Path:
    """Rows of two splits, as `zerotune data prepare` writes them for sft."""
    held = write_jsonl(tmp_path / "held.jsonl", [PAIR])
    config = make_config([PAIR] * 3, validation={"uris": [f"file://{held}"]}, overflow="skip", maxLength=64)
    (tmp_path / "config.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    assert main(["prepare", str(tmp_path), str(tmp_path / "rows")]) == 0
    return tmp_path / "rows"


def warnings_of(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, folder: Path, split: str | None = "train", **job: Any
) -> tuple[str, ...]:
    """Those of a job over the rows; maxLength is that of the fixture."""
    train = {"uris": [folder.as_uri()], "split": split}
    return data.prepare(make_config(folder, train=train, **{"maxLength": 64} | job), tokenizer).warnings


def test_rows_of_the_jobs_own_tokenizer_need_no_warning(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, rows: Path
) -> None:
    assert warnings_of(make_config, tokenizer, rows) == ()
    assert warnings_of(make_config, tokenizer, rows / "train", None) == ()


@pytest.mark.parametrize("split", ["train", "validation"])
def test_rows_of_another_tokenizer_are_rejected_with_both_named(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, tokenizer_folder: Path, rows: Path, split: str
) -> None:
    tokenizer.add_tokens(["weakness"])
    with pytest.raises(ConfigurationError) as caught:
        warnings_of(make_config, tokenizer, rows, split)
    message = f"{rows} holds token ids of the tokenizer of file://{tokenizer_folder} (800 tokens, digest "
    assert message in caught.value.message
    assert "is another one (801 tokens" in caught.value.message
    assert "zerotune data prepare" in caught.value.hint


@pytest.mark.parametrize("split", ["train", "validation"])
def test_rows_without_a_mark_of_their_tokenizer_are_warned_of(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, rows: Path, split: str
) -> None:
    for path in rows.glob("*/zerotune.json"):
        path.unlink()
    (text,) = warnings_of(make_config, tokenizer, rows, split)
    assert text.startswith(f"{rows} does not say which tokenizer its token ids are of")


def test_another_template_method_or_length_is_warned_of(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, rows: Path
) -> None:
    tokenizer.chat_template = "{{ messages }}"
    template, method, loss, length = warnings_of(make_config, tokenizer, rows, method="cpt", maxLength=128, loss="all")
    assert "with another chat template" in template
    assert "for method sft, and this job has cpt" in method
    assert "with data.loss left out, and this job has all" in loss
    assert "with data.maxLength 64, and this job has 128" in length


def test_rows_of_preferences_are_not_trained_on_as_texts(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """With sft both completions would be learned, one after the other."""
    config = make_config([{"prompt": "What is it?", "chosen": " This", "rejected": " That"}], method="dpo")
    (tmp_path / "config.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    assert main(["prepare", str(tmp_path), str(tmp_path / "pairs")]) == 0
    with pytest.raises(ConfigurationError, match=r"pairs holds rows for method dpo, and this job has method sft"):
        warnings_of(make_config, tokenizer, tmp_path / "pairs")
    assert warnings_of(make_config, tokenizer, tmp_path / "pairs", method="orpo") == ()


def test_a_damaged_mark_is_an_error_that_says_what_to_do(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, rows: Path
) -> None:
    path = rows / "train" / "zerotune.json"
    path.write_text(json.dumps({"method": "sft"}))
    with pytest.raises(ConfigurationError, match=f"{path} does not say how the rows were prepared: Field required"):
        warnings_of(make_config, tokenizer, rows)


def test_a_preview_of_prepared_rows_prints_what_is_to_be_known(
    make_config: MakeConfig, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(rows, train={"uris": [rows.as_uri()], "split": "train"}, method="cpt")
    (tmp_path / "config.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    assert main(["preview", str(tmp_path)]) == 0
    assert f"warning: {rows} was prepared for method sft, and this job has cpt" in capsys.readouterr().out
