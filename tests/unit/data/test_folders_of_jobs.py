"""A job's output folder as the data of the next: its records are read, what it keeps for itself is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from zerotune_trainer.config.data import Records
from zerotune_trainer.data.records import read_records
from zerotune_trainer.errors import InputMissingError
from zerotune_trainer.ownership import OWNER_NAME

METRICS = '{"kind": "train", "step": 1}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What an InferenceJob leaves."""
    folder = tmp_path / "answers"
    folder.mkdir()
    for name, content in (
        (OWNER_NAME, "{}"),
        ("part-00000.jsonl", '{"prompt": "a", "generation": "b"}\n'),
        ("part-00001.jsonl", '{"prompt": "c", "generation": "d"}\n'),
        ("metrics.jsonl", METRICS),
        ("results.json", "{}"),
    ):
        (folder / name).write_text(content)
    return folder


def read(uri: str, cache: Path) -> list[str]:
    return [str(record.values.get("prompt")) for record in read_records(Records(uris=[uri]), cache)]


@pytest.mark.parametrize("pattern", ["", "/*.jsonl", "/**/*.jsonl"])
def test_records_of_an_inference_job_without_its_metrics(folder: Path, tmp_path: Path, pattern: str) -> None:
    assert read(f"file://{folder}{pattern}", tmp_path) == ["a", "c"]


def test_a_job_that_writes_into_the_data_folder_adds_no_records(folder: Path, tmp_path: Path) -> None:
    checkpoint = folder / "tuned" / "checkpoints" / "checkpoint-4"
    checkpoint.mkdir(parents=True)
    (folder / "tuned" / OWNER_NAME).write_text("{}")
    for place in (folder / "tuned", checkpoint):
        (place / "metrics.jsonl").write_text(METRICS)
        (place / "merges.txt").write_text("a b")
    assert read(f"file://{folder}", tmp_path) == ["a", "c"]


def test_a_folder_with_a_model_alone_is_no_data(tmp_path: Path) -> None:
    (tmp_path / OWNER_NAME).write_text("{}")
    (tmp_path / "metrics.jsonl").write_text(METRICS)
    with pytest.raises(InputMissingError, match=r"metrics\.jsonl belong to the job that wrote the folder") as rejected:
        read(f"file://{tmp_path}", tmp_path)
    assert "part-*" in rejected.value.hint


def test_a_file_of_that_name_is_read_where_no_job_wrote_or_where_it_is_named(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "metrics.jsonl").write_text('{"prompt": "mine"}\n')
    assert read(f"file://{own}", tmp_path) == ["mine"]
    assert read(f"file://{folder}/metrics.jsonl", tmp_path) == ["None"]
