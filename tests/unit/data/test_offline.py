"""Records processed and tokenized offline, and a job that trains on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from zerotune_trainer import data
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data.__main__ import main

MakeConfig = Callable[..., TrainConfig]

FUNCTION = """
def to_pair(record):
    return {"prompt": f"What is CWE-{record['id']}?", "completion": " " + record["name"]}
"""


def listed(dataset: Any) -> list[dict[str, list[int]]]:
    return [{name: value.tolist() for name, value in row.items()} for row in dataset]


def write_config(config: TrainConfig, folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["none", "bfd_split"])
def test_r33_processing_offline_gives_the_rows_of_the_job(
    make_config: MakeConfig,
    tokenizer: PreTrainedTokenizerFast,
    weaknesses: list[dict[str, str]],
    tmp_path: Path,
    packing: str,
) -> None:
    (tmp_path / "processing.py").write_text(FUNCTION)
    options: dict[str, Any] = {"packing": packing, "maxLength": 64, "validationFraction": 0.1}
    function = {"file": f"file://{tmp_path}/processing.py", "processing": "to_pair"}
    online = make_config(weaknesses, plugin=function, **options)
    assert main(["prepare", str(write_config(online, tmp_path / "job")), str(tmp_path / "out")]) == 0
    offline = make_config(tmp_path / "out", train={"uris": [f"file://{tmp_path}/out"], "split": "train"}, **options)
    one, other = data.prepare(online, tokenizer), data.prepare(offline, tokenizer)
    assert listed(one.train) == listed(other.train) and listed(one.validation) == listed(other.validation)
    assert one.counts == other.counts and one.counts.train.loss_tokens < one.counts.train.tokens


def test_offline_prepares_validation_records_too(
    make_config: MakeConfig, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    (tmp_path / "held.jsonl").write_text('{"text": "held out"}\n')
    config = make_config([{"text": "x"}], validation={"uris": [f"file://{tmp_path}/held.jsonl"]})
    assert main(["prepare", str(write_config(config, tmp_path / "job")), str(tmp_path / "out")]) == 0
    uri = {"uris": [f"file://{tmp_path}/out"]}
    offline = make_config(tmp_path / "out", train=uri | {"split": "train"}, validation=uri | {"split": "validation"})
    validation: Any = data.prepare(offline, tokenizer).validation
    assert tokenizer.decode(validation[0]["input_ids"]) == "<s>held out</s>"


def test_offline_says_what_is_wrong(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_config(make_config([{"text": "fine"}, {"text": ""}]), tmp_path / "job")
    assert main(["prepare", str(folder), str(tmp_path / "out")]) == 65
    assert "train.jsonl:2: column 'text' is empty" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([str(folder), str(tmp_path / "out")]) == 65, "two folders alone are prepared, too"
    assert main(["prepare", str(folder), str(tmp_path)]) == 64
    assert "is there already" in capsys.readouterr().err
