"""Rows that are others than they should be: on another host, or since the last checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

pytestmark = pytest.mark.slow


def test_hosts_that_see_other_data_do_not_begin(make_job: Any, corpus: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join((corpus / "text.jsonl").read_text().splitlines(keepends=True)[:50]))
    job = make_job(hosts="127.0.0.1 slots=1\n127.0.0.2 slots=1\n")
    job.train_uri_of = {"127.0.0.2": f"file://{other}"}
    ended = job.run()

    assert ended.own_exit_codes == {65}, ended.failures
    assert "rank 1 on 127.0.0.2 prepared" in ended.failures[0].message
    assert "of other data than rank 0 on 127.0.0.1" in ended.failures[0].message


def test_a_run_that_goes_on_with_other_data_says_so(interrupted: Any, corpus: Path, tmp_path: Path) -> None:
    job = interrupted
    lines = (corpus / "text.jsonl").read_text().splitlines(keepends=True)
    changed = tmp_path / "text.jsonl"
    changed.write_text("".join(reversed(lines)))
    job.train_uri_of = {"127.0.0.1": f"file://{changed}"}
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert "training begins at checkpoint-6" in ended.log
    said = "checkpoint-6 was written over other rows: the data, or what makes rows of it, has changed"
    assert said in ended.log
    assert said in " ".join(ended.warnings)
    assert sum(said in text for text in job.results()["changes"]) == 1

    # The next attempt begins at a checkpoint that was written over the changed rows.
    (job.output / "manifest.json").unlink()
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.failures
    assert "training begins at checkpoint-8" in ended.log
    assert sum(said in text for text in ended.warnings) == 1


def test_a_job_over_rows_that_do_not_say_their_tokenizer_warns_of_it(make_job: Any, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    datasets.Dataset.from_dict({"input_ids": [list(range(5, 100))] * 20}).save_to_disk(str(rows))
    job = make_job()
    job.config["data"]["train"]["uris"] = [rows.as_uri()]
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.failures
    assert [text for text in ended.warnings if text.startswith(f"{rows} does not say which tokenizer")]
