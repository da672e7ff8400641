"""Data that cannot be trained on: what the job says, with which exit code, and that nothing it had is lost."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow

GOOD = b'{"prompt": "Name CWE-79:", "completion": " XSS"}\n'


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"prompt": ["Name CWE-79:"] * 99, "completion": [" XSS"] * 99}), sink)
    return bytes(sink.getvalue().to_pybytes())


def record(**columns: Any) -> bytes:
    return json.dumps(columns).encode() + b"\n"


class Case(NamedTuple):
    """A file (None: there is none), the columns that the spec names, and what comes of it."""

    name: str
    content: bytes | None
    code: int
    message: str
    hint: str
    columns: dict[str, str] | None = None


CASES = {
    "invalid UTF-8": Case(
        "bad.jsonl",
        GOOD + b'{"prompt": "caf\xe9", "completion": "x"}\n',
        65,
        "{file}:2: byte 15 of the line (0xe9) is not UTF-8: ",
        "convert the file to UTF-8, for example with iconv",
    ),
    "a broken line": Case(
        "bad.jsonl",
        GOOD * 2 + b'{"prompt": }\n' + GOOD,
        65,
        "{file}:3: not JSON: ",
        "a jsonl file has one JSON object a line",
    ),
    "no record": Case(
        "bad.jsonl", b"\n", 65, "no record in {file}", "the files are empty: give files that hold records"
    ),
    "gzip cut off": Case(
        "bad.jsonl.gz",
        gzip.compress(GOOD * 99, mtime=0)[:-9],
        65,
        "{file}:100: the gzip data is cut off or broken: ",
        "fetch or write the file again; `gzip -t` checks it",
    ),
    "parquet cut off": Case(
        "bad.parquet",
        parquet()[:-100],
        65,
        "{file}: after row 0: the parquet data is cut off or broken: ",
        "fetch or write the file again",
    ),
    "a record longer than the context": Case(
        "bad.jsonl",
        GOOD + record(prompt="Name CWE-79:", completion=" weakness" * 200),
        65,
        "{file}:2: ",
        "raise data.maxLength",
    ),
    "no column that is read": Case(
        "bad.jsonl",
        record(question="a", answer="b"),
        66,
        "{file}:1: none of the columns 'question', 'answer' is one that is read: ",
        "name the column as data.columns.text",
    ),
    "a column that is not there": Case(
        "bad.jsonl",
        GOOD + record(prompt="Name CWE-89:", completon=" SQL injection"),
        66,
        "{file}:2: no column 'completion'",
        "did you mean 'completon'? There are 'prompt', 'completon'",
        {"prompt": "prompt", "completion": "completion"},
    ),
    "no file": Case("bad.jsonl", None, 66, "file://{file} is not there", "give a file, a folder, or a glob"),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the output of the stopped job is kept."""
    return tmp_path_factory.mktemp("stopped") / "output"


@pytest.fixture
def stopped(make_job: Any, kept: Path) -> Any:
    """A job that was stopped when it had a checkpoint."""
    job = make_job(method="sft")
    if not kept.exists():
        running = job.start()
        running.until(lambda heartbeat: heartbeat.step >= 2)
        running.signal(signal.SIGTERM)
        assert running.end().exit_codes == [143, 143]
        shutil.move(job.output, kept)
    shutil.copytree(kept, job.output)
    assert list(job.checkpoints.glob("*/manifest.json"))
    return job


def snapshot(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bad_data_is_reported_with_its_place_and_changes_nothing(stopped: Any, case: Case, tmp_path: Path) -> None:
    job, path, before = stopped, tmp_path / case.name, snapshot(stopped.output)
    if case.content is not None:
        path.write_bytes(case.content)
    job.config["data"] |= {"train": {"uris": [path.as_uri()]}, "columns": case.columns or {}}
    ended = job.run()

    assert ended.own_exit_codes == {case.code}
    for failure in ended.failures.values():
        assert failure.message.startswith(case.message.format(file=path))
        assert case.hint in failure.hint
    assert snapshot(job.output) == before


def test_a_job_goes_on_from_its_checkpoint_once_the_data_is_mended(stopped: Any, corpus: Path, tmp_path: Path) -> None:
    job, path = stopped, tmp_path / "answers.jsonl"
    good = (corpus / "answers.jsonl").read_bytes()
    path.write_bytes(good[:-20])
    job.config["data"]["train"]["uris"] = [path.as_uri()]
    assert job.run().own_exit_codes == {65}
    path.write_bytes(good)
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert "training begins at checkpoint-" in ended.log
    assert job.results()["steps"] == 6


def test_bad_validation_records_are_reported_before_training(make_job: Any, tmp_path: Path) -> None:
    path = tmp_path / "held-out.jsonl"
    path.write_bytes(b'{"text": "one"}\n{"text": "tw')
    job = make_job()
    job.config["data"] |= {"validation": {"uris": [path.as_uri()]}, "validationFraction": 0.0}
    ended = job.run()

    assert ended.own_exit_codes == {65}
    assert ended.failures[0].message.startswith(f"{path}:2: not JSON: ")
    assert "training" not in ended.phases
