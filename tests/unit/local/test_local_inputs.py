"""What a job reads on this machine is looked for before it starts; what lies elsewhere is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plan.conftest import fine_tune_job, inference_job
from zerotune_operator.backends.local.inputs import check_inputs
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError, ZerotuneError


@pytest.fixture
def here(tmp_path: Path) -> str:
    """URI of a folder with records and code."""
    (tmp_path / "a.jsonl").write_text("{}\n")
    (tmp_path / "mine.py").write_text("def clean(record):\n    return record\n")
    return f"file://{tmp_path}"


def data(*uris: str) -> dict[str, Any]:
    return {"train": {"uris": list(uris)}}


def test_a_file_a_folder_a_pattern_and_what_is_elsewhere_will_do(here: str) -> None:
    uris = (f"{here}/a.jsonl", here, f"{here}/*.jsonl", "s3://data/d", "hf://datasets/org/set")
    check_inputs(fine_tune_job(data=data(*uris), plugin={"file": f"{here}/mine.py", "processing": "clean"}))
    check_inputs(inference_job(plugin={"file": "s3://code/mine.py", "processing": "none"}))


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ({"data": data("HERE/b.jsonl")}, InputMissingError, "data.train.uris: .*/b.jsonl is not there"),
        ({"data": data("HERE/*.csv")}, InputMissingError, r"/\*.csv is a pattern that no path matches\n"),
        ({"data": data("HERE/[x]/*.csv")}, InputMissingError, r"no path matches; a \[ .* is written \[\[\]\n"),
        ({"plugin": {"file": "HERE/mine.py", "processing": "clear"}}, InputMissingError, "defines no 'clear'"),
        ({"method": "script", "script": {"file": "HERE"}}, ConfigurationError, "script.file: .* is a folder"),
        (
            {
                "plugin": {"file": "HERE/mine.py"},
                "data": {"train": {"uris": ["s3://ddd/t"]}, "validation": {"uris": ["s3://ddd/v"]}},
                "evaluation": {"generation": {"metrics": ["rouge", "bleu"], "data": {"uris": ["s3://ddd/p"]}}},
            },
            InputMissingError,
            "plugin.file: .* defines no 'bleu'",
        ),
    ],
)
def test_what_is_not_there_is_named(here: str, spec: Any, error: type[ZerotuneError], message: str) -> None:
    with pytest.raises(error, match=message):
        check_inputs(fine_tune_job(**_at(spec, here)))


def test_records_and_code_of_an_inference_are_named(here: str) -> None:
    spec = {"data": {"uris": [f"{here}/b.jsonl"]}, "plugin": {"file": f"{here}/mine.py", "processing": "clear"}}
    with pytest.raises(InputMissingError, match=r"data.uris: .*/b.jsonl is not there; plugin.file: .* no 'clear'"):
        check_inputs(inference_job(**spec))


@pytest.mark.parametrize(
    ("listed", "split", "message"),
    [
        (["train"], "validation", "rows has no split 'validation'; it holds train"),
        (["train", "validation"], None, "rows holds the splits train, validation"),
        (None, "train", "rows holds no splits, and 'train' is asked for"),
        (["train"], None, ""),
        (["train", "validation"], "validation", ""),
        (None, None, ""),
    ],
)
def test_the_split_of_a_datasets_folder_is_there_and_named(
    tmp_path: Path, listed: list[str] | None, split: str | None, message: str
) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / ("state.json" if listed is None else "dataset_dict.json")).write_text(json.dumps({"splits": listed}))
    part = {"uris": [rows.as_uri()], **({"split": split} if split else {})}
    job = fine_tune_job(data={"train": {"uris": ["s3://ddd/t"]}, "validation": part})
    if not message:
        check_inputs(job)
        return
    with pytest.raises((InputMissingError, ConfigurationError), match=f"data.validation.uris: {tmp_path}/{message}"):
        check_inputs(job)
    with pytest.raises((InputMissingError, ConfigurationError), match=f"data.uris: {tmp_path}/{message}"):
        check_inputs(inference_job(data=part))


@pytest.mark.parametrize(
    ("method", "name", "content", "columns"),
    [
        ("kto", "a.jsonl", '{"prompt": "q", "completion": "a"}', {}),
        ("kto", "a.csv", "prompt,completion\nq,a\n", {}),
        ("kto", "a.jsonl", '{"prompt": "q", "completion": "a", "label": true}', {"label": "good"}),
        ("dpo", "a.jsonl", '\n\n{"prompt": "q", "chosen": "a"}', {}),
        ("orpo", "a.jsonl", '{"prompt": "q", "completion": "a", "label": true}', {}),
    ],
)
def test_a_first_record_that_tells_no_preference_is_named(
    tmp_path: Path, method: str, name: str, content: str, columns: dict[str, str]
) -> None:
    (tmp_path / name).write_text(content)
    named = {"columns": {"prompt": "prompt", "completion": "completion"} | columns} if columns else {}
    job = fine_tune_job(method=method, data=data(f"file://{tmp_path}/{name}") | named)
    with pytest.raises(InputMissingError, match=f"data.train.uris: {tmp_path}/{name}:1: method {method} reads the col"):
        check_inputs(job)


@pytest.mark.parametrize(
    ("method", "content", "spec"),
    [
        ("kto", '{"completion": "a", "label": 1}', {}),
        ("kto", '{"chosen": "a", "rejected": "b"}', {}),
        ("dpo", '{"chosen": "a", "rejected": "b"}', {}),
        ("dpo", '{"other": 1}', {"plugin": {"file": "s3://code/mine.py", "processing": "clean"}}),
        ("dpo", "no JSON", {}),
        ("sft", '{"other": 1}', {}),
        ("dpo", " ", {}),
    ],
)
def test_a_first_record_that_may_do_passes(tmp_path: Path, method: str, content: str, spec: dict[str, Any]) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    check_inputs(fine_tune_job(method=method, data=data(f"file://{tmp_path}/a.jsonl"), **spec))


def test_files_of_no_byte_alone_hold_no_records(tmp_path: Path) -> None:
    empty, other = tmp_path / "empty.jsonl", tmp_path / "other.jsonl"
    empty.touch()
    other.write_text('{"text": "a"}')
    for records in ({"train": {"uris": [f"file://{empty}"]}}, {"uris": [f"file://{empty}"]}):
        job = fine_tune_job(data=records) if "train" in records else inference_job(data=records)
        with pytest.raises(DataError, match=r"uris: .*/empty.jsonl is empty"):
            check_inputs(job)
    check_inputs(fine_tune_job(data=data(f"file://{empty}", f"file://{other}")))


def test_a_json_array_is_no_jsonl(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[\n{"text": "a"}\n]')
    records = {"uris": [f"file://{tmp_path}/a.json"], "format": "jsonl"}
    for job in (fine_tune_job(data={"train": records}), inference_job(data=records)):
        with pytest.raises(DataError, match=r"uris: .*/a.json holds a JSON array") as caught:
            check_inputs(job)
        assert "jq -c" in caught.value.hint


@pytest.mark.parametrize("resume", ["checkpoint-500", "epoch-2", "best"])
def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path, resume: str) -> None:
    spec: dict[str, Any] = {
        "checkpoint": {"uri": f"file://{tmp_path}/own", "resume": resume},
        "data": data("s3://ddd/t") | {"validationFraction": 0.1},
    }
    with pytest.raises(InputMissingError, match=f"{tmp_path}/own has no checkpoint that '{resume}' stands for"):
        check_inputs(fine_tune_job(**spec))
    for name in ("checkpoint-20", "checkpoint-500"):
        (tmp_path / "own" / name).mkdir(parents=True)
        (tmp_path / "own" / name / "manifest.json").write_text("{}")
    check_inputs(fine_tune_job(**spec))


def test_checkpoints_of_the_output_and_of_no_output_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "home"))
    for output, folder in (({"uri": f"file://{tmp_path}/out"}, f"{tmp_path}/out"), ({}, f"{tmp_path}/home")):
        with pytest.raises(InputMissingError, match=f"{folder}.*/checkpoints has no checkpoint") as caught:
            check_inputs(fine_tune_job(output=output, checkpoint={"resume": "checkpoint-5"}))
        assert caught.value.hint.startswith("there are: none")
    check_inputs(fine_tune_job(output={"uri": "s3://ooo/o"}, checkpoint={"resume": "checkpoint-5"}))


def _at(value: Any, here: str) -> Any:
    """A part of a spec with a folder in the place of HERE."""
    if isinstance(value, dict):
        return {name: _at(part, here) for name, part in value.items()}
    if isinstance(value, list):
        return [_at(part, here) for part in value]
    return value.replace("HERE", here) if isinstance(value, str) else value
