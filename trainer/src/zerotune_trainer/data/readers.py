"""Files of records as records, each with the place it came from. Every reader is lazy and reads in order."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import orjson
from pyarrow.parquet import ParquetFile

from zerotune_trainer import storage
from zerotune_trainer.counting import counted
from zerotune_trainer.data.files import DataFile, Format
from zerotune_trainer.data.lines import decode, decoded, excerpt, open_lines
from zerotune_trainer.data.saved import open_split
from zerotune_trainer.errors import DataError, ZerotuneError
from zerotune_trainer.input_errors import of_input, recognize

_ROWS = 256
"""Rows of a columnar file that are turned into records at once."""


CARRIAGE_RETURNS = "lines end with a carriage return alone: convert them, for example with `tr '\\r' '\\n'`"
_AN_OBJECT = "write {...} with named columns"
_NOT_A_NUMBER = re.compile(rb"[:\[,]\s*-?(NaN|Infinity)\b")


class Record(NamedTuple):
    """A record and its place: the line where it begins in jsonl and csv, else its row; both count from 1."""

    values: dict[str, Any]
    file: str
    number: int

    @property
    def location(self) -> str:
        """`FILE:LINE`, as messages name it."""
        return f"{self.file}:{self.number}"


def read_file(file: DataFile) -> Iterator[Record]:
    """The records of a file.

    Raises:
        DataError: the file is broken; the message has file, line (or byte), and what is wrong there.
        InputMissingError, ConfigurationError, TemporaryError: as `storage.store_errors` says.
    """
    number = 0
    with storage.store_errors(file.uri):
        try:
            for number, record in enumerate(_READERS[file.format](file), start=1):  # noqa: B007 read where it fails
                yield record
        except Exception as error:
            raise _broken(file, number, error) from error


def _read_jsonl(file: DataFile) -> Iterator[Record]:
    with open_lines(file) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield Record(parse_object(file, number, line), file.name, number)


def parse_object(file: DataFile, number: int, line: bytes) -> dict[str, Any]:
    """A line of jsonl as a record.

    Raises:
        DataError: it is not a JSON object, or not UTF-8.
    """
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        decode(file, number, line)
        reason = "it has NaN or Infinity" if _NOT_A_NUMBER.search(line) else error.msg
        raise DataError(f"{file.name}:{number}: not JSON: {reason}: {excerpt(line)}", _json_hint(line)) from error
    if not isinstance(values, dict):
        hint = "write one object a line, for example with `jq -c '.[]'`" if isinstance(values, list) else _AN_OBJECT
        raise DataError(f"{file.name}:{number}: {excerpt(line)} is no JSON object", hint)
    return values


def _json_hint(line: bytes) -> str:
    if b"\r" in line.strip():
        return CARRIAGE_RETURNS
    if _NOT_A_NUMBER.search(line):
        return "JSON has no NaN and no Infinity: write null, as pandas' to_json(orient='records', lines=True) does"
    return recognize(line) or "a jsonl file has one JSON object a line: `jq -c` writes it so"


def _read_csv(file: DataFile) -> Iterator[Record]:
    csv.field_size_limit(sys.maxsize)
    with open_lines(file) as lines:
        rows = csv.reader(decoded(file, lines), strict=True)
        try:
            yield from _csv_records(file, rows)
        except csv.Error as error:
            hint = CARRIAGE_RETURNS if "new-line character" in str(error) else "quote fields as RFC 4180 says"
            raise DataError(f"{file.name}:{rows.line_num}: not CSV: {error}", hint) from error


def _csv_records(file: DataFile, rows: Any) -> Iterator[Record]:
    header: list[str] = next(rows, [])
    if len(set(header)) < len(header) or "" in header:
        of_pandas = header[:1] == [""] and header.count("") == 1
        hint = "leave out pandas' index: to_csv(..., index=False)" if of_pandas else "name every column once"
        raise DataError(f"{file.name}:1: header {header!r:.200} has an empty or repeated name", hint)
    line = rows.line_num + 1
    for row in rows:
        if row:
            yield Record(_named(file, line, header, row), file.name, line)
        line = rows.line_num + 1


def _named(file: DataFile, line: int, header: list[str], row: list[str]) -> dict[str, Any]:
    if len(row) != len(header):
        raise DataError(
            f"{file.name}:{line}: {counted(len(row), 'field')} where the header names {len(header)}",
            "quote fields that hold commas, quotes or line breaks",
        )
    return dict(zip(header, row, strict=True))


def _read_txt(file: DataFile) -> Iterator[Record]:
    with open_lines(file) as lines:
        yield Record({"text": "".join(decoded(file, lines))}, file.name, 1)


def _read_parquet(file: DataFile) -> Iterator[Record]:
    with storage.open_native(file.uri) as native:
        yield from _rows(file, ParquetFile(native).iter_batches(batch_size=_ROWS))


def _read_datasets(file: DataFile) -> Iterator[Record]:
    yield from _rows(file, open_split(file).with_format("arrow").iter(batch_size=_ROWS))


def _rows(file: DataFile, batches: Iterable[Any]) -> Iterator[Record]:
    rows = (values for batch in batches for values in batch.to_pylist())
    for number, values in enumerate(rows, start=1):
        yield Record(values, file.name, number)


def _broken(file: DataFile, number: int, error: Exception) -> Exception:
    # What the system says, by errno, is for `store_errors`; anything else says that the content is broken.
    if isinstance(error, ZerotuneError) or getattr(error, "errno", None) is not None:
        return error
    what = f"{file.name}: after row {number}: the {file.format} data is cut off or broken"
    return of_input(error, DataError, what, _beginning_of(file) or "fetch or write the file again")


def _beginning_of(file: DataFile) -> str:
    """What to do about a columnar file that is none; empty where it is one."""
    if file.format != "parquet":
        return ""
    with storage.open_input(file.uri) as content:
        beginning = content.read(64)
    return "" if beginning.startswith(b"PAR1") else recognize(beginning)


_READERS: dict[Format, Callable[[DataFile], Iterator[Record]]] = {
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "txt": _read_txt,
    "parquet": _read_parquet,
    "datasets": _read_datasets,
}
