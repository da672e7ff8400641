"""Reading records by number: the same whatever the runs they are asked for in, broken lines included."""

from __future__ import annotations

import gzip
import itertools
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerotune_trainer.config.data import Records
from zerotune_trainer.config.generation import InferenceData, InferenceOutputFormat
from zerotune_trainer.data.files import DataFile, resolve
from zerotune_trainer.errors import ConfigurationError, DataError
from zerotune_trainer.inference.marks import Marks
from zerotune_trainer.inference.source import Source, count_records, reject_common_clash

NAMES = InferenceOutputFormat()


def write(folder: Path) -> list[DataFile]:
    """Files of every format, one of them empty, with 23 records in all; record 2 is a broken line."""
    (folder / "a.jsonl").write_text('{"n": 0}\n\n{"n": 1}\n{"n": \n{"n": 3}\n')
    (folder / "b.jsonl").write_text("")
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(b"".join(b'{"n": %d}\n' % n for n in range(4, 10))))
    (folder / "d.csv").write_text('n,text\n10,"two\nlines"\n11,x\n12,y\n')
    pq.write_table(pa.table({"n": range(13, 22)}), folder / "e.parquet", row_group_size=2)
    (folder / "f.txt").write_text("22")
    return resolve(Records(uris=[f"file://{folder}"]), folder / "cache")


def number(values: dict[str, object]) -> int:
    return int(str(values.get("n", values.get("text"))))


def test_count() -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert [count_records(file, NAMES) for file in write(Path(folder))] == [4, 0, 6, 3, 9, 1]


@pytest.mark.slow
@given(cuts=st.lists(st.integers(0, 23), max_size=12), start=st.integers(0, 22))
@settings(max_examples=40, deadline=None)
def test_runs_in_any_order_give_the_records_of_those_numbers(cuts: list[int], start: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = write(Path(folder))
        source = Source(files, [count_records(file, NAMES) for file in files], NAMES)
        edges = sorted({start, *cuts, 23})
        runs = [range(first, last) for first, last in itertools.pairwise(edges)]
        # Going back is allowed too.
        for run in [*runs, *runs[::-2]]:
            entries = source.read(run)
            assert [entry.number for entry in entries] == list(run)
            for entry in entries:
                if entry.number == 2:
                    assert entry.record is None
                    assert entry.error.startswith(f"{folder}/a.jsonl:4: not JSON")
                else:
                    assert entry.record is not None
                    assert number(entry.record.values) == entry.number


def test_links_and_loops_of_links_multiply_no_record(tmp_path: Path) -> None:
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1/a.jsonl").write_text('{"n": 0}\n{"n": 1}\n')
    (tmp_path / "latest").symlink_to("run-1")
    (tmp_path / "run-1/loop").symlink_to(tmp_path)
    (tmp_path / "z.jsonl").symlink_to("run-1/a.jsonl")
    files = resolve(InferenceData(uris=[f"file://{tmp_path}"]), tmp_path / "cache")
    assert sum(count_records(file, NAMES) for file in files) == 2


def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 0}\n')
    files = resolve(Records(uris=[f"file://{tmp_path}"]), tmp_path)
    with pytest.raises(DataError, match="the files end after 1 record, there were 3"):
        Source(files, [3], NAMES).read(range(3))


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("late.jsonl", b'{"n": 0}\n' * 5000 + b'{"n": 1, "error": "sensor"}\n' + b'{"n": 2}\n' * 10, 5000),
        ("first.jsonl", b'{"n": 0, "generation": "mine"}\n{"n": 1}\n', 0),
        ("escaped.jsonl", b'{"n": 0}\n{"\\u0065rror": 1}\n', 1),
        ("nan.jsonl", b'{"n": 0}\n{"n": NaN, "generation": 1}\n', 1),
    ],
)
def test_a_column_that_the_output_needs_makes_that_record_an_error(
    tmp_path: Path, name: str, content: bytes, place: int
) -> None:
    (tmp_path / name).write_bytes(content)
    [file] = files = resolve(Records(uris=[f"file://{tmp_path}"]), tmp_path)
    reject_common_clash(files, NAMES)
    entries = Source(files, [count_records(file, NAMES)], NAMES).read(range(content.count(b"\n")))
    assert [entry.number for entry in entries if entry.error] == [place]
    bad = entries[place]
    assert bad.error.startswith(f"{tmp_path}/{name}:{place + 1}: ")
    assert bad.raw is None and bad.record is not None
    assert not {"error", "generation"} & bad.record.values.keys()


def test_the_remedy_is_part_of_such_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 0}\n{"error": 1}\n')
    files = resolve(Records(uris=[f"file://{tmp_path}"]), tmp_path)
    [_, bad] = Source(files, [2], NAMES).read(range(2))
    assert "has a column 'error', which the output would lose: choose another name with outputFormat" in bad.error


@pytest.mark.parametrize(
    ("content", "is_rejected"),
    [
        ('{"error": 1}\n', True),
        ('{"error": 1}\n{"generation": 2}\n' * 60 + '{"n": 1}\n', True),
        ('{"error": 1}\n' * 99 + '{"n": 1}\n', False),
        ("", False),
    ],
)
def test_a_column_that_all_first_records_have_is_rejected(tmp_path: Path, content: str, is_rejected: bool) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    files = resolve(Records(uris=[f"file://{tmp_path}"]), tmp_path)
    with pytest.raises(ConfigurationError, match="the record has a column") if is_rejected else nullcontext():
        reject_common_clash(files, NAMES)


def test_such_a_column_of_csv_is_found_in_its_header(tmp_path: Path) -> None:
    (tmp_path / "head.csv").write_text("n,error\n1,2\n")
    [file] = resolve(Records(uris=[f"file://{tmp_path}"]), tmp_path)
    with pytest.raises(ConfigurationError, match=r"head.csv:2: the record has a column") as caught:
        count_records(file, NAMES)
    assert "outputFormat." in caught.value.hint


def test_such_a_column_of_parquet_is_found_without_reading_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1], "error": ["x"]}), tmp_path / "a.parquet")
    [file] = resolve(Records(uris=[f"file://{tmp_path}"]), tmp_path)
    with pytest.raises(ConfigurationError, match="column 'error'"):
        count_records(file, NAMES)


def test_a_name_of_the_output_may_stand_anywhere_else(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "error: generation"}\n{"nested": {"error": 1}}\n{"error": \n')
    [file] = resolve(Records(uris=[f"file://{tmp_path}"]), tmp_path)
    assert count_records(file, NAMES) == 3
    assert count_records(file, InferenceOutputFormat(error_column="a/b", generation_column="c")) == 3


def test_a_nan_costs_a_line_its_text_but_no_column(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "score": NaN, "deep": [-Infinity, 2]}\n[NaN]\n')
    files = resolve(Records(uris=[f"file://{tmp_path}"]), tmp_path)
    first, second = Source(files, [2], NAMES).read(range(2))
    assert first.record is not None
    assert first.record.values == {"id": 1, "score": None, "deep": [None, 2]}
    assert "a.jsonl:1: not JSON" in first.error
    assert first.raw is None
    assert second.record is None


def test_reading_begins_at_the_mark_before_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerotune_trainer.inference.marks.SPACING", 10)
    monkeypatch.setattr("zerotune_trainer.inference.source.SPACING", 10)
    lines = [b'\xef\xbb\xbf{"n": 0}\n', *(b"\n" * (n % 3) + b'{"n": %d}\n' % n for n in range(1, 95)), b"broken"]
    content = b"".join(lines)
    (tmp_path / "a.jsonl").write_bytes(content)
    [file] = files = resolve(Records(uris=[f"file://{tmp_path}"]), tmp_path)
    marks = Marks()
    assert count_records(file, NAMES, marks) == 96
    assert [content[offset : offset + 5] for offset in marks.offsets[1:]] == [b'{"n":'] * 9
    expected = Source(files, [96], NAMES).read(range(96))
    source = Source(files, [96], NAMES, [marks])
    for run in (range(85, 96), range(3, 7), range(7, 12), range(40, 50), range(61, 62)):
        assert source.read(run) == [expected[number] for number in run]
