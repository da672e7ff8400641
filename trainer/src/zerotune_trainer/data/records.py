"""All records a job names, in order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from zerotune_trainer.config.data import Records
from zerotune_trainer.data.files import DataFile, resolve
from zerotune_trainer.data.readers import Record, read_file
from zerotune_trainer.errors import DataError

_log = logging.getLogger(__name__)


def read_records(records: Records, cache_dir: Path) -> Iterator[Record]:
    """The records of all files, lazily: URI after URI, file after file, line after line.

    Raises:
        DataError: a file is broken, or there is no record at all.
        InputMissingError: a URI stands for no file.
        ConfigurationError, TemporaryError: the store rejects or does not answer.
    """
    yield from read_files(resolve(records, cache_dir))


def read_files(files: Iterable[DataFile]) -> Iterator[Record]:
    """The records of files, in order.

    Raises:
        DataError: a file is broken, or there is no record in any.
    """
    names: list[str] = []
    record: Record | None = None
    for file in files:
        names.append(file.name)
        for record in read_file(file):
            yield record
    if record is None:
        raise DataError(f"no record in {brief(names)}", "the files are empty: give files that hold records")


class AnsweredRecords:
    """The records of files as they pass, without those by which an InferenceJob says why it has no text for them."""

    def __init__(self, files: Sequence[DataFile]) -> None:
        self._files = files
        self._columns = {file.name: file.error_column for file in files}
        self.failed = 0
        """How many have been left out so far."""

    def __iter__(self) -> Iterator[Record]:
        """The records, in order.

        Raises:
            DataError: as `read_files` says, or all have been left out.
        """
        last, kept = "", 0
        for record in read_files(self._files):
            column = self._columns[record.file]
            error = record.values.get(column) if column else None
            if error is None:
                kept += 1
                yield record
            else:
                self.failed += 1
                last = f"{record.location}: {error!s:.200}"
        if not kept:
            names = brief([file.name for file in self._files])
            raise DataError(
                f"every record of {names} has an error in place of a text, {self.failed:,} in all, the last one {last}",
                "correct the InferenceJob that wrote them, and run it again",
            )
        if self.failed:
            _log.warning(
                "%d of %d records have an error in place of a text, and are left out", self.failed, self.failed + kept
            )


def brief(names: list[str]) -> str:
    """The first of the names of files, and how many there are besides."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
