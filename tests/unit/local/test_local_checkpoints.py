"""A checkpoint of a job of this machine as the model of another one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import parse_job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.local.layout import find_inputs
from zerotune_trainer.errors import ConfigurationError, InputMissingError
from zerotune_trainer.sizing.model_config import shape_of_file

LLAMA = shape_of_file(Path(__file__).parents[2] / "golden" / "plan" / "models" / "tiny-llama.json")


@pytest.fixture
def folder(home: Home, job: Callable[..., Job]) -> JobFolder:
    """Of a job that failed after three checkpoints, the last of them not complete."""
    folder = home.create("FineTuneJob", "cwe")
    folder.write_job(job())
    folder.write_status(JobStatus(phase="Failed", model=LLAMA, model_uri="file:///models/base"))
    for step in (2, 10, 12):
        checkpoint = folder.output / "checkpoints" / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "trainer_state.json").write_text(json.dumps({"best_global_step": 2}))
        if step < 12:
            (checkpoint / "manifest.json").write_text("{}")
    return folder


def asking(name: str) -> Job:
    model = {"fromFineTuneJob": "cwe", "checkpoint": name}
    spec = {"model": model, "data": {"uris": ["file:///records.jsonl"]}}
    return parse_job(
        {"apiVersion": "zerotune.dev/v1alpha1", "kind": "InferenceJob", "metadata": {"name": "ask"}, "spec": spec}
    )


@pytest.mark.parametrize(("asked", "step"), [("checkpoint-7", 7), ("last", 10), ("best", 2)])
def test_a_checkpoint_by_its_name_the_last_and_the_best(home: Home, folder: JobFolder, asked: str, step: int) -> None:
    found = find_inputs(asking(asked), home)
    assert found.model_uri == f"file://{folder.output}/checkpoints/checkpoint-{step}"
    assert found.shape == LLAMA.model_copy(update={"checkpoint_base": "file:///models/base"})


def test_a_job_that_has_begun_keeps_the_checkpoint_it_began_with(home: Home, folder: JobFolder) -> None:
    assert find_inputs(asking("last"), home, ("file:///older/checkpoint-2", LLAMA)).model_uri.endswith("-2")


def test_a_job_that_has_not_begun_has_no_checkpoint(home: Home, folder: JobFolder) -> None:
    folder.write_status(JobStatus(phase="Pending"))
    with pytest.raises(InputMissingError, match="has not begun"):
        find_inputs(asking("last"), home)


def test_the_last_checkpoint_on_s3_is_not_looked_up(home: Home, folder: JobFolder, job: Callable[..., Job]) -> None:
    folder.write_job(job(checkpoint={"uri": "s3://steps/cwe"}))
    assert find_inputs(asking("checkpoint-3"), home).model_uri == "s3://steps/cwe/checkpoint-3"
    with pytest.raises(ConfigurationError, match="which is not on this machine"):
        find_inputs(asking("last"), home)
