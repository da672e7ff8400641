"""A job's output folder as the data of the next: its records are read, what it keeps for itself is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from transformers import PreTrainedTokenizerFast as Tokenizer

from tests.unit.data.conftest import MakeConfig
from zerotune_trainer import data
from zerotune_trainer.config import JobIdentity
from zerotune_trainer.config.data import Records
from zerotune_trainer.config.generation import InferenceOutputFormat
from zerotune_trainer.data.records import read_records
from zerotune_trainer.errors import DataError, InputMissingError
from zerotune_trainer.inference.rows import OutputRow, as_jsonl, as_parquet
from zerotune_trainer.manifest import MANIFEST_NAME, Manifest
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


Answers = Callable[..., Path]
REASON = "3000 tokens of prompt are more than 1024"


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    """Writes the folder of a finished InferenceJob: a record a text, with an error where that is None."""

    def write(*texts: str | None, suffix: str = "jsonl", error_column: str = "error") -> Path:
        folder, names = tmp_path / "answers", InferenceOutputFormat(error_column=error_column)
        folder.mkdir()
        rows = [OutputRow({"prompt": "What is it?"}, None, text, None if text else REASON) for text in texts]
        columns = pa.schema({"prompt": pa.string()})
        content = as_jsonl(rows, names) if suffix == "jsonl" else as_parquet(rows, names, columns, pa.string())
        (folder / f"part-00000.{suffix}").write_bytes(content)
        identity = JobIdentity(kind="InferenceJob", name="teacher", uid="1")
        manifest = Manifest(job=identity, config_digest="d", step=len(rows), files=[], error_column=error_column)
        (folder / OWNER_NAME).write_text("{}")
        (folder / MANIFEST_NAME).write_bytes(manifest.encoded())
        return folder

    return write


PAIR = {"prompt": "prompt", "completion": "generation"}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("error_column", ["error", "why"])
@pytest.mark.parametrize("name", ["", "/part-*"])
def test_records_a_teacher_failed_on_are_left_out_and_counted(
    answers: Answers, make_config: MakeConfig, tokenizer: Tokenizer, suffix: str, error_column: str, name: str
) -> None:
    folder = answers(None, " a flaw", None, " a bug", suffix=suffix, error_column=error_column)
    prepared = data.prepare(make_config(Path(f"{folder}{name}"), columns=PAIR), tokenizer)
    counts = prepared.counts.train
    assert (counts.records, counts.rows, counts.failed_records, counts.skipped_records) == (4, 2, 2, 0)
    texts = [tokenizer.decode(row["input_ids"]) for row in prepared.train]
    assert not any(REASON in text for text in texts)


@pytest.mark.parametrize("fields", [{"packing": "wrapped"}, {"validationFraction": 0.5}])
def test_records_a_teacher_failed_on_are_counted_however_rows_are_shared(
    answers: Answers, make_config: MakeConfig, tokenizer: Tokenizer, fields: dict[str, Any]
) -> None:
    config = make_config(answers(" a flaw", None, " a bug"), columns=PAIR, maxLength=16, **fields)
    counts = data.prepare(config, tokenizer).counts
    rest = counts.validation.records if counts.validation else 0
    assert (counts.train.failed_records, counts.train.records + rest) == (1, 3)


def test_a_teacher_that_failed_on_every_record_leaves_nothing_to_learn(
    answers: Answers, make_config: MakeConfig, tokenizer: Tokenizer
) -> None:
    with pytest.raises(
        DataError, match=r"every record of .*part-00000.jsonl has an error in place of a text, 3 in all"
    ) as rejected:
        data.prepare(make_config(answers(None, None, None), columns=PAIR), tokenizer)
    assert REASON in rejected.value.message and "InferenceJob" in rejected.value.hint


def test_a_column_called_error_in_a_users_own_file_is_theirs(make_config: MakeConfig, tokenizer: Tokenizer) -> None:
    counts = data.prepare(make_config([{"text": "a log line", "error": "E42"}] * 3), tokenizer).counts.train
    assert (counts.rows, counts.failed_records) == (3, 0)


def test_rows_are_made_anew_once_errors_are_known_as_such(
    answers: Answers, make_config: MakeConfig, tokenizer: Tokenizer
) -> None:
    folder = answers(" a flaw", None)
    config = make_config(folder, columns={"text": "prompt"})
    manifest = folder / MANIFEST_NAME
    known = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(known), "errorColumn": None}))
    before = data.prepare(config, tokenizer).counts.train.rows
    manifest.write_text(known)
    assert (before, data.prepare(config, tokenizer).counts.train.rows) == (2, 1)
