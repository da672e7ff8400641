"""All records a job names, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from zerotune_trainer.config.data import Records
from zerotune_trainer.data.files import DataFile, resolve
from zerotune_trainer.data.readers import Record, read_file
from zerotune_trainer.errors import DataError


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


def brief(names: list[str]) -> str:
    """The first of the names of files, and how many there are besides."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
