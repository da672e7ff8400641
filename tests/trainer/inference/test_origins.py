"""A job that starts from another one's output: the folder holds that job's, whole, or nothing is done."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.config import JobIdentity
from zerotune_trainer.manifest import MANIFEST_NAME, Manifest

pytestmark = pytest.mark.slow


def signed(folder: Path, kind: str, name: str) -> Path:
    """A folder that a job has written."""
    writer = JobIdentity.model_validate({"kind": kind, "name": name, "uid": f"uid-of-{name}"})
    (folder / MANIFEST_NAME).write_bytes(Manifest(job=writer, config_digest="d", step=1, files=[]).encoded())
    return folder


def reading_from(job: Any, model: Path, records: Path) -> Path:
    origins = [
        {"field": "model.fromFineTuneJob", "kind": "FineTuneJob", "name": "cwe", "uri": model.as_uri()},
        {"field": "data.fromInferenceJob", "kind": "InferenceJob", "name": "ask", "uri": records.as_uri()},
    ]
    folder: Path = job(ranks=1, model={"uri": model.as_uri()}, data={"uris": [records.as_uri()]}, origins=origins)
    return folder


@pytest.fixture
def model(model_folder: Path, tmp_path: Path) -> Path:
    return signed(Path(shutil.copytree(model_folder, tmp_path / "model")), "FineTuneJob", "cwe")


@pytest.fixture
def records(tmp_path: Path) -> Path:
    folder = tmp_path / "answers"
    folder.mkdir()
    (folder / "part-00000.jsonl").write_text('{"prompt": "What is XSS?"}\n')
    return signed(folder, "InferenceJob", "ask")


def test_outputs_of_the_jobs_that_are_named_are_read(job: Any, run_job: Any, model: Path, records: Path) -> None:
    assert run_job(reading_from(job, model, records)).exit_codes == [0]


@pytest.mark.parametrize(("kind", "name"), [("FineTuneJob", "another"), ("InferenceJob", "cwe")])
def test_a_model_of_another_job_is_rejected(
    job: Any, run_job: Any, model: Path, records: Path, kind: str, name: str
) -> None:
    outcome = run_job(reading_from(job, signed(model, kind, name), records))
    assert outcome.exit_codes == [64]
    assert outcome.failure.message == (
        f"{model.as_uri()} holds the output of {kind} {name}, not of FineTuneJob cwe, which model.fromFineTuneJob names"
    )
    assert f"name {name} there" in outcome.failure.hint


def test_records_of_another_job_are_rejected(job: Any, run_job: Any, model: Path, records: Path) -> None:
    outcome = run_job(reading_from(job, model, signed(records, "InferenceJob", "another")))
    assert outcome.exit_codes == [64]
    assert "not of InferenceJob ask, which data.fromInferenceJob names" in outcome.failure.message


@pytest.mark.parametrize("content", [None, "not a manifest"])
def test_an_output_without_its_manifest_is_rejected(
    job: Any, run_job: Any, model: Path, records: Path, content: str | None
) -> None:
    (model / MANIFEST_NAME).unlink()
    if content is not None:
        (model / MANIFEST_NAME).write_text(content)
    outcome = run_job(reading_from(job, model, records))
    assert outcome.exit_codes == [66]
    assert "so that what FineTuneJob cwe is to have written is" in outcome.failure.message
    assert "run cwe again" in outcome.failure.hint
