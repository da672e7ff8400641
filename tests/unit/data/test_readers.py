"""Every format gives the same records; every broken file says what and where."""

from __future__ import annotations

import contextlib
import csv
import errno
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest

from zerotune_trainer import storage
from zerotune_trainer.config.data import Records
from zerotune_trainer.data.records import read_records
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError, TemporaryError, ZerotuneError
from zerotune_trainer.failures import classify

Rows = list[dict[str, Any]]


def jsonl(rows: Rows, folder: Path) -> Path:
    path = folder / "data.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in rows))
    return path


def jsonl_gz(rows: Rows, folder: Path) -> Path:
    path = folder / "data.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(rows, folder).read_bytes()))
    return path


def parquet(rows: Rows, folder: Path) -> Path:
    path = folder / "data.parquet"
    pa.parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=40)
    return path


def csv_file(rows: Rows, folder: Path) -> Path:
    path = folder / "data.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def saved(rows: Rows, folder: Path) -> Path:
    datasets.Dataset.from_list(rows).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def saved_splits(rows: Rows, folder: Path) -> Path:
    splits = {"train": datasets.Dataset.from_list(rows), "test": datasets.Dataset.from_list(rows[:1])}
    datasets.DatasetDict(splits).save_to_disk(str(folder / "splits"))
    return folder / "splits"


def read(path: Path | str, **options: Any) -> list[Any]:
    records = Records.model_validate({"uris": [f"file://{path}"], **options})
    return list(read_records(records, Path("/nonexistent-cache")))


@pytest.mark.parametrize("write", [jsonl, jsonl_gz, parquet, csv_file, saved, saved_splits])
def test_every_format_gives_the_same_records(
    write: Callable[[Rows, Path], Path], weaknesses: Rows, tmp_path: Path
) -> None:
    path = write(weaknesses, tmp_path)
    records = read(path, **({"split": "train"} if write is saved_splits else {}))
    assert [record.values for record in records] == weaknesses
    assert {record.file for record in records} == {str(path)}


def test_a_place_is_the_line_where_the_record_begins(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\n{"text": "one"}\n\n{"text": "two"}')
    (tmp_path / "b.csv").write_bytes(b'\xef\xbb\xbftext\n"one\nmore"\ntwo\n')
    assert [(record.location, record.values) for record in read(tmp_path)] == [
        (f"{tmp_path}/a.jsonl:2", {"text": "one"}),
        (f"{tmp_path}/a.jsonl:4", {"text": "two"}),
        (f"{tmp_path}/b.csv:2", {"text": "one\nmore"}),
        (f"{tmp_path}/b.csv:4", {"text": "two"}),
    ]


def test_a_txt_file_is_one_record(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second\r\nline")
    (tmp_path / "a.txt").write_text("erste Zeile: ä\n")
    assert [record.values for record in read(f"{tmp_path}/*.txt")] == [
        {"text": "erste Zeile: ä\n"},
        {"text": "second\r\nline"},
    ]


def test_uris_are_read_as_written_and_files_sorted(tmp_path: Path) -> None:
    for name in ("10", "2", "1"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}))
    records = Records(uris=[f"file://{tmp_path}/2.jsonl", f"file://{tmp_path}/1*"])
    assert [record.values["text"] for record in read_records(records, tmp_path)] == ["2", "1", "10"]


def test_a_format_that_is_named_wins_over_the_file_name(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"text": "one"}\n')
    assert [record.values for record in read(tmp_path / "data.json", format="jsonl")] == [{"text": "one"}]


def test_reading_is_lazy(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "tw')
    records = read_records(Records(uris=[f"file://{tmp_path}/a.jsonl"]), tmp_path)
    assert next(records).values == {"text": "one"}
    with pytest.raises(DataError, match=r"a\.jsonl:2"):
        next(records)


GOOD = b'{"text": "one"}\n{"text": "two"}\n'
TABLE = pa.table({"text": [f"weakness {number}" for number in range(5000)]})


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(TABLE, sink, compression="snappy", row_group_size=1000)
    return bytes(sink.getvalue().to_pybytes())


def overwritten(data: bytes, begin: int) -> bytes:
    return data[:begin] + bytes(64) + data[begin + 64 :]


BROKEN: list[tuple[str, bytes, str]] = [
    ("a.jsonl", b'{"text": "one"}\n{"text": }\n', r"a\.jsonl:2: not JSON: .*'\{\"text\": \}"),
    ("a.jsonl", b'{"text": "one"}\n["two"]\n', r"a\.jsonl:2: .* is no JSON object"),
    ("a.jsonl", GOOD + b'{"text": "tw', r"a\.jsonl:3: not JSON"),
    ("a.jsonl", GOOD + b'{"text": "\xe9t\xe9"}\n', r"a\.jsonl:3: byte 10 of the line \(0xe9\) is not UTF-8"),
    ("a.jsonl", b"", r"no record in .*a\.jsonl"),
    ("a.jsonl", b"\n \n", r"no record in .*a\.jsonl"),
    ("a.jsonl.gz", gzip.compress(GOOD, mtime=0)[:-9], r"a\.jsonl\.gz:3: the gzip data is cut off"),
    ("a.jsonl.gz", GOOD, r"a\.jsonl\.gz:1: the gzip data is cut off or broken: Not a gzipped file"),
    ("a.jsonl.gz", gzip.compress(GOOD, mtime=0)[:12] + b"\xff" * 4, r"a\.jsonl\.gz:1: the gzip data is cut off"),
    ("a.csv", b"text,name\none,1\ntwo\n", r"a\.csv:3: 1 field where the header names 2"),
    ("a.csv", b"text,name\none,1,2\n", r"a\.csv:2: 3 fields where the header names 2"),
    ("a.csv", b'text\n"one\ntwo\n', r"a\.csv:3: not CSV: unexpected end of data"),
    ("a.csv", b"text,text\none,two\n", r"a\.csv:1: header .* has an empty or repeated name"),
    ("a.csv", b"text\none\ncaf\xe9\n", r"a\.csv:3: byte 12 of the file \(0xe9\) is not UTF-8"),
    ("a.csv", b"text\n", r"no record in .*a\.csv"),
    ("a.txt", b"one\ntw\xff", r"a\.txt:2: byte 6 of the file \(0xff\) is not UTF-8"),
    ("a.parquet", parquet_bytes()[:-100], r"a\.parquet: after row 0: the parquet data is cut off or broken"),
    ("a.parquet", parquet_bytes()[:50], r"a\.parquet: after row 0: the parquet data is cut off or broken"),
    ("a.parquet", overwritten(parquet_bytes(), 30000), r"a\.parquet: after row \d+: the parquet data is .* broken"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_broken_file_is_a_data_error_with_its_place(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / name)
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint and caught.value.exit_code == 65


def test_a_text_that_is_not_utf_8_is_a_data_error(tmp_path: Path) -> None:
    binary = pa.array([b"caf\xe9"], pa.binary())
    text = pa.StringArray.from_buffers(1, *binary.buffers()[1:])
    pa.parquet.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: after row 0: the parquet data is .* broken"):
        read(tmp_path / "a.parquet")


def test_a_disk_that_fails_does_not_make_the_data_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a process, where nothing is mapped, stands for the disk: reading it is an input/output error."""
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_bytes())
    with storage.open_native(f"file://{path}") as native, Path("/proc/self/mem").open("rb") as memory:
        opened = next(name for name in Path("/proc/self/fd").iterdir() if name.resolve() == path)
        os.dup2(memory.fileno(), int(opened.name))
        monkeypatch.setattr(storage, "open_native", lambda _: contextlib.nullcontext(native))
        with pytest.raises(OSError) as caught:
            read(path)
    assert caught.value.errno == errno.EIO
    assert isinstance(classify(caught.value), TemporaryError)


def test_a_broken_datasets_folder_is_a_data_error(weaknesses: Rows, tmp_path: Path) -> None:
    path = saved(weaknesses, tmp_path)
    arrow = next(path.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"saved cannot be read by datasets .*: Expected to be able to read"):
        read(path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigurationError, "holds the splits train, test"),
        ({"split": "dev"}, InputMissingError, "has no split 'dev'; it holds train, test"),
    ],
)
def test_a_split_must_be_clear(
    options: dict[str, str], error: type[ZerotuneError], message: str, weaknesses: Rows, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        read(saved_splits(weaknesses, tmp_path), **options)


@pytest.mark.parametrize(
    ("write", "message"),
    [(jsonl, "split 'test' chooses from a `datasets` folder of several"), (saved, "saved holds no splits, and 'test'")],
)
def test_a_split_where_there_are_none_is_rejected(
    write: Callable[[Rows, Path], Path], message: str, weaknesses: Rows, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(write(weaknesses, tmp_path), split="test")
    assert caught.value.hint.startswith("leave `split` out")


def test_a_name_in_capitals_is_not_left_out_of_a_folder(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.JSONL"):
        (tmp_path / name).write_text('{"text": "a"}\n')
    with pytest.raises(ConfigurationError, match=r"b.JSONL: the name does not show the format"):
        read(str(tmp_path))
    assert len(read(str(tmp_path), format="jsonl")) == 2


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("none.jsonl", InputMissingError, "none.jsonl is not there"),
        ("*.jsonl", InputMissingError, "stands for no file"),
        ("", InputMissingError, "stands for no file"),
        ("odd.xml", ConfigurationError, "odd.xml: the name does not show the format"),
    ],
)
def test_files_that_cannot_be_meant(pattern: str, error: type[ZerotuneError], message: str, tmp_path: Path) -> None:
    (tmp_path / "odd.xml").write_text("<x/>")
    with pytest.raises(error, match=message):
        read(f"{tmp_path}/{pattern}")


def test_a_subset_of_files_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="subset 'en' chooses from a data set of the Hugging Face Hub"
    ) as caught:
        list(read_records(Records(uris=["file:///a.jsonl"], subset="en"), tmp_path))
    assert "hf://datasets/ORG/NAME" in caught.value.hint
