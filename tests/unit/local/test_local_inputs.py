"""What a job reads on this machine is looked for before it starts; what lies elsewhere is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.plan.conftest import fine_tune_job, inference_job
from zerotune_operator.backends.local.inputs import check_inputs
from zerotune_trainer.errors import ConfigurationError, InputMissingError, ZerotuneError


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
                "data": {"train": {"uris": ["s3://d/t"]}, "validation": {"uris": ["s3://d/v"]}},
                "evaluation": {"generation": {"metrics": ["rouge", "bleu"], "data": {"uris": ["s3://d/p"]}}},
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


def _at(value: Any, here: str) -> Any:
    """A part of a spec with a folder in the place of HERE."""
    if isinstance(value, dict):
        return {name: _at(part, here) for name, part in value.items()}
    if isinstance(value, list):
        return [_at(part, here) for part in value]
    return value.replace("HERE", here) if isinstance(value, str) else value
