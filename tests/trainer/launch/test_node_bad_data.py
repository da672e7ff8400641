"""What cannot be trained with, through the whole launcher: its exit code and its termination message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_SECONDS_TO_START = 200


def test_a_missing_column_ends_the_launcher_and_all_ranks(
    make_job: Callable, model_folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "one"}\n{"body": "two"}\n')
    job = make_job({"127.0.0.1": 2})
    job.config["model"] = {"uri": model_folder.as_uri()}
    job.config["data"] = {"train": {"uris": [data.as_uri()]}}
    [node] = job.start_real()

    assert node.end(_SECONDS_TO_START) == 66
    assert (node.failure.failure_class, node.failure.exit_code) == ("InputMissing", 66)
    assert node.failure.message == f"{data}:2: no column 'text'"
    assert node.failure.hint == "there are 'body'"
    assert node.left_behind() == []
    assert not (tmp_path / "output" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [(None, 66, "deepspeed.json is not there"), ('{"zero_optimization": ', 64, "deepspeed.json: Expecting value")],
    ids=["missing", "broken"],
)
def test_settings_of_deepspeed_that_cannot_be_read_are_reported(
    make_job: Callable, model_folder: Path, tmp_path: Path, content: str | None, code: int, message: str
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "one"}\n')
    job = make_job()
    job.config["model"] = {"uri": model_folder.as_uri()}
    job.config["data"] = {"train": {"uris": [data.as_uri()]}}
    job.write()
    settings = job.folder / "deepspeed.json"
    settings.unlink() if content is None else settings.write_text(content)
    node = job.launch("127.0.0.1")

    assert node.end(_SECONDS_TO_START) == code
    assert message in node.failure.message
    assert node.failure.hint
    assert not (tmp_path / "output" / "metrics.jsonl").exists()
