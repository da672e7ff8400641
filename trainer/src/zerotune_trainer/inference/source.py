"""The records of an InferenceJob by their global number, in order; a broken line is one of them, not the end."""

from __future__ import annotations

import itertools
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import orjson
from pyarrow.parquet import ParquetFile

from zerotune_trainer import storage
from zerotune_trainer.config.generation import InferenceOutputFormat
from zerotune_trainer.counting import counted
from zerotune_trainer.data.files import DataFile
from zerotune_trainer.data.lines import is_compressed, open_lines, without_mark
from zerotune_trainer.data.readers import Record, parse_object, read_file
from zerotune_trainer.data.saved import open_split
from zerotune_trainer.errors import DataError
from zerotune_trainer.inference.marks import BEGINNING, SPACING, Mark, Marks
from zerotune_trainer.inference.rows import clash, reject_clash
from zerotune_trainer.input_errors import input_errors

SAMPLE = 100
"""Records that are read before the work starts: what columns there are."""


@dataclass(frozen=True)
class Entry:
    """A record, or what is in its place."""

    number: int
    """Its global number, from 0."""
    location: str
    """`FILE:LINE`."""
    record: Record | None
    """Also beside an error: the columns of a line that is JSON but for a NaN."""
    raw: bytes | None = None
    """The line of jsonl that it was, without its end."""
    error: str = ""
    """Why nothing can be generated for it."""


@dataclass(frozen=True)
class _Line:
    """A line of jsonl that nobody has parsed yet."""

    file: DataFile
    number: int
    text: bytes


def count_records(file: DataFile, names: InferenceOutputFormat, marks: Marks | None = None) -> int:
    """How many records a file has; lines of jsonl count whether they can be read or not.

    Args:
        file: The file.
        names: Those that the output needs.
        marks: Receives where records of jsonl are.

    Raises:
        ConfigurationError: all records have a column of a name that the output needs, as the format shows: each line of
            jsonl has columns of its own.
        DataError: the file is broken.
        InputMissingError, ConfigurationError, TemporaryError: as `storage.store_errors` says.
    """
    if file.format == "parquet":
        return _count_parquet(file, names)
    if file.format == "datasets":
        split = open_split(file)
        reject_clash(Record(dict.fromkeys(split.column_names), file.name, 1), names)
        return len(split)
    if file.format == "jsonl":
        return _count_lines(file, marks or Marks())
    count = 0
    for count, record in enumerate(read_file(file), start=1):
        if count == 1:
            reject_clash(record, names)
    return count


def reject_common_clash(files: Sequence[DataFile], names: InferenceOutputFormat) -> None:
    """See that not all of the first records have a column of a name that the output needs: where some have, they are
    errors.

    Raises:
        ConfigurationError: they do.
    """
    records = itertools.islice((record for file in files for record in readable_records(file)), SAMPLE)
    errors = [clash(record, names) for record in records]
    if errors and errors[0] is not None and all(errors):
        raise errors[0]


def readable_records(file: DataFile) -> Iterator[Record]:
    """The records of a file, without the lines that are none."""
    entries = (_parsed(number, item) for number, item in enumerate(_items(file)))
    return (entry.record for entry in entries if entry.record is not None)


class Source:
    """Reads runs of records. Runs that are asked for in rising order are read in one pass over the files; what others
    read between them is left out from mark to mark.
    """

    def __init__(
        self,
        files: Sequence[DataFile],
        counts: Sequence[int],
        names: InferenceOutputFormat,
        marks: Sequence[Marks] = (),
    ) -> None:
        self._files, self._names = files, names
        self._marks = marks or [Marks()] * len(files)
        self._starts = list(itertools.accumulate(counts, initial=0))
        self._position = -1
        self._stream: Iterator[_Line | Record] = iter(())

    def sample(self) -> list[Record]:
        """The first records that can be read."""
        entries = self.read(range(min(SAMPLE, self._starts[-1])))
        return [entry.record for entry in entries if entry.record is not None and not entry.error]

    def read(self, numbers: range) -> list[Entry]:
        """The records of these global numbers.

        Raises:
            DataError: the files hold fewer records than they did, or one cannot be read further.
        """
        self._go_to(numbers.start)
        items = itertools.islice(self._stream, numbers.start - self._position, numbers.stop - self._position)
        entries = [_entry(number, item, self._names) for number, item in zip(numbers, items, strict=False)]
        self._position = numbers.stop
        if len(entries) < len(numbers):
            raise DataError(
                f"the files end after {counted(numbers.start + len(entries), 'record')}, there were {self._starts[-1]}",
                "leave the input alone while the job runs",
            )
        return entries

    def _file_of(self, number: int) -> int:
        return bisect_right(self._starts, number) - 1

    def _go_to(self, number: int) -> None:
        """Open the files anew where that is nearer to a record than reading on is."""
        file = self._file_of(number)
        mark = self._marks[file].before(number - self._starts[file])
        is_ahead = self._starts[file] + mark.record >= self._position + SPACING
        if is_ahead or number < self._position or file != self._file_of(self._position):
            following = itertools.chain.from_iterable(map(_items, self._files[file + 1 :]))
            self._stream = itertools.chain(_items(self._files[file], mark), following)
            self._position = self._starts[file] + mark.record


def _items(file: DataFile, mark: Mark = BEGINNING) -> Iterator[_Line | Record]:
    if file.format != "jsonl":
        yield from read_file(file)
        return
    with storage.store_errors(file.uri), open_lines(file, mark.offset) as lines:
        for number, line in enumerate(lines, start=mark.line):
            if text := line.strip():
                yield _Line(file, number, text)


def _entry(number: int, item: _Line | Record, names: InferenceOutputFormat) -> Entry:
    """A record, or an error in its place where it has a column of a name that the output needs."""
    entry = _parsed(number, item)
    error = None if entry.record is None else clash(entry.record, names)
    if entry.record is None or error is None:
        return entry
    own = (names.generation_column, names.error_column)
    kept = {name: value for name, value in entry.record.values.items() if name not in own}
    reason = entry.error or f"{error.message}: {error.hint}"
    return Entry(number, entry.location, entry.record._replace(values=kept), error=reason)


def _parsed(number: int, item: _Line | Record) -> Entry:
    if isinstance(item, Record):
        return Entry(number, item.location, item)
    location = f"{item.file.name}:{item.number}"
    try:
        record = Record(parse_object(item.file, item.number, item.text), item.file.name, item.number)
    except DataError as error:
        return Entry(number, location, _with_nulls(item), error=error.message)
    return Entry(number, location, record, item.text)


def _with_nulls(line: _Line) -> Record | None:
    """A line that is JSON but for NaN and Infinity, which Python writes and JSON has not: with null in their place."""
    try:
        values = orjson.loads(orjson.dumps(json.loads(line.text, parse_constant=lambda _: None)))
    except (ValueError, TypeError, RecursionError):
        return None
    return Record(values, line.file.name, line.number) if isinstance(values, dict) else None


def _count_lines(file: DataFile, marks: Marks) -> int:
    """Of a compressed file there are no marks: it is read from its beginning."""
    with storage.store_errors(file.uri):
        if is_compressed(file):
            with open_lines(file) as lines:
                return sum(1 for line in lines if line.strip())
        count = offset = 0
        with storage.open_input(file.uri) as binary:
            for number, (size, line) in enumerate(_sized(binary), start=1):
                if line.strip():
                    marks.note(count, offset, number)
                    count += 1
                offset += size
        return count


def _sized(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines without a byte order mark, each with the bytes that it has in its file."""
    first, second = itertools.tee(lines)
    return zip(map(len, first), without_mark(second), strict=True)


def _count_parquet(file: DataFile, names: InferenceOutputFormat) -> int:
    broken = input_errors(DataError, f"{file.name}: not a whole parquet file", "fetch or write the file again")
    with storage.open_native(file.uri) as native, broken:
        parquet = ParquetFile(native)
        columns, rows = parquet.schema_arrow.names, int(parquet.metadata.num_rows)
    reject_clash(Record(dict.fromkeys(columns), file.name, 1), names)
    return rows
