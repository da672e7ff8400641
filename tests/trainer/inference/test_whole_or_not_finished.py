"""A job that says it has finished has every record, whatever was removed, altered or counted wrong meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.distributed import HashStore, PrefixStore

from zerotune_trainer.errors import TemporaryError
from zerotune_trainer.inference import rounds, verification
from zerotune_trainer.manifest import differences, read_manifest

pytestmark = pytest.mark.slow

SHARDS = 7
RECORDS = 20


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "VERIFY_AGAIN_SECONDS", (0.0,))


def parts(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(output.glob("part-*"))}


def assert_whole(output: Path, completion: Any) -> None:
    rows = [json.loads(line) for content in parts(output).values() for line in content.splitlines()]
    assert [row["id"] for row in rows] == list(range(RECORDS))
    manifest = read_manifest(output)
    assert manifest is not None
    assert differences(output, manifest) == []
    assert manifest.step == completion.progress.step == completion.progress.total == RECORDS
    assert json.loads((output / "results.json").read_text())["records"] == RECORDS
    assert not (output / "work").exists()


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "altered":
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    elif path.suffix == ".json":
        path.write_bytes(content.replace(b'"plan":"', b'"plan":"0'))
    else:
        # Whole lines, as another writer would leave them.
        path.write_bytes(content + content)


DAMAGE = st.dictionaries(
    st.tuples(st.integers(0, SHARDS - 1), st.sampled_from(["file", "marker"])),
    st.sampled_from(["missing", "empty", "cut", "altered", "another plan"]),
    max_size=2 * SHARDS,
)


def do_damage(output: Path, wanted: dict[tuple[int, str], str]) -> None:
    for (shard, which), how in wanted.items():
        path = output / (f"part-{shard:06}.jsonl" if which == "file" else f"work/part-{shard:06}.json")
        damage(path, how)


@given(at_end=DAMAGE, between=DAMAGE)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_files_and_markers_never_makes_a_manifest_that_lies(
    tmp_path: Path,
    stub_job: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    at_end: dict[tuple[int, str], str],
    between: dict[tuple[int, str], str],
) -> None:
    """Damage before the verification at the end of the first attempt, then a restart over other damage."""
    output = tmp_path / "output"
    shutil.rmtree(output, ignore_errors=True)
    job = stub_job(RECORDS)
    real, calls = verification.verify_each, [0]

    def verify(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            do_damage(output, at_end)
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(verification, "verify_each", verify)
        job.run_until_results()
    assert not (output / "manifest.json").exists()
    assert len(parts(output)) == SHARDS
    do_damage(output, between)
    job.store = HashStore()
    assert_whole(output, job.run(attempt=1))


def test_a_marker_that_vanished_is_made_again(
    tmp_path: Path, stub_job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, job = tmp_path / "output", stub_job(RECORDS)
    real = rounds.verify_written

    def lose_one(*args: Any) -> Any:
        (output / "work/part-000001.json").unlink(missing_ok=True)
        monkeypatch.setattr(rounds, "verify_written", real)
        return real(*args)

    monkeypatch.setattr(rounds, "verify_written", lose_one)
    assert_whole(output, job.run())


def test_a_counter_that_a_stranger_raised_loses_no_record(tmp_path: Path, stub_job: Callable[..., Any]) -> None:
    job = stub_job(RECORDS)
    PrefixStore("inference/0", job.store).add("tasks", 5)
    PrefixStore("inference/0", job.store).add("records", 1000)
    assert_whole(tmp_path / "output", job.run())


def test_files_that_never_stay_end_in_an_error_that_names_them(
    tmp_path: Path, stub_job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, job = tmp_path / "output", stub_job(RECORDS)
    real = rounds.verify_written

    def lose_one(*args: Any) -> Any:
        (output / "part-000002.jsonl").unlink()
        return real(*args)

    monkeypatch.setattr(rounds, "verify_written", lose_one)
    with pytest.raises(TemporaryError, match=r"17 of 20 records.*part-000002\.jsonl is missing"):
        job.run()
    assert not (output / "manifest.json").exists()


def test_files_of_no_plan_are_removed_from_the_own_folder(tmp_path: Path, stub_job: Callable[..., Any]) -> None:
    """A result in more files, whose plan and manifest are deleted."""
    output, job = tmp_path / "output", stub_job(RECORDS)
    job.run()
    (output / "manifest.json").unlink()
    (output / "part-000099.jsonl").write_text('{"id": 99}\n')
    job.store = HashStore()
    assert_whole(output, job.run(attempt=1))


@pytest.mark.parametrize("name", ["part-000003.jsonl", "results.json"])
def test_a_finished_job_whose_files_are_missing_makes_them_again(
    tmp_path: Path, stub_job: Callable[..., Any], name: str
) -> None:
    output, job = tmp_path / "output", stub_job(RECORDS)
    first = job.run()
    (output / name).unlink()
    job.store = HashStore()
    again = job.run(attempt=1)
    assert_whole(output, again)
    assert again == first


def test_files_that_are_listed_late_are_not_made_again(
    tmp_path: Path, stub_job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, job = tmp_path / "output", stub_job(RECORDS)
    hidden, calls, real = tmp_path / "hidden.json", [0], verification.verify_each
    marker = output / "work/part-000004.json"

    def verify(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            marker.rename(hidden)
        elif calls[0] == 3:
            hidden.rename(marker)
        return real(*args)

    monkeypatch.setattr(verification, "verify_each", verify)
    made: list[int] = []
    generate = rounds.ShardGenerator.make
    monkeypatch.setattr(rounds.ShardGenerator, "make", lambda *a: (made.append(a[1]), generate(*a))[1])
    assert_whole(output, job.run())
    assert made == list(range(SHARDS))


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_another_name_of_a_column_keeps_what_has_been_generated(
    tmp_path: Path, stub_job: Callable[..., Any], stub_engine: Any, write_jsonl: Any, format_: str
) -> None:
    """Stopped, then continued under other names: the files are as if they had been the names from the beginning."""
    lines = [{"id": number, "prompt": f"weakness {number}"} for number in range(10)] + ["broken"]
    data = {"uris": [write_jsonl(lines).as_uri()]}
    names = {"generationColumn": "answer", "errorColumn": "problem", "format": format_, "rowsPerFile": 4}
    stub_job(data=data, outputFormat=names).run()
    expected = parts(tmp_path / "output")
    shutil.rmtree(tmp_path / "output")

    job = stub_job(data=data, outputFormat={"format": format_, "rowsPerFile": 4})
    job.run_until_results()
    assert parts(tmp_path / "output").keys() == expected.keys()
    renamed = stub_job(data=data, outputFormat=names)
    stub_engine.batches.clear()
    renamed.run(attempt=1)
    assert parts(tmp_path / "output") == expected
    assert stub_engine.batches == []
