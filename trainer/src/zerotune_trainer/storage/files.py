"""Input files: list what a URI stands for, open it, read it."""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from zerotune_trainer.config.data import no_match
from zerotune_trainer.errors import InputMissingError
from zerotune_trainer.storage.locations import Location, locate, store_errors
from zerotune_trainer.storage.stores import StoredFile, store_of

_GLOB_CHARACTERS = frozenset("*?[")
_BUFFER = {"file": 1 << 20, "s3": 8 << 20}
"""Bytes that are read ahead, by scheme; on S3 each time is a request."""


def list_files(uri: str, suffixes: Sequence[str]) -> list[StoredFile]:
    """The files that a file, glob (`*`, `?`, `[]`, `**`) or folder stands for, sorted by path, each real file once.

    A folder stands for the files below it whose names end in one of `suffixes`, in small letters or in capitals, and do
    not begin with `.` or `_`.

    Raises:
        InputMissingError: there is none.
        ConfigurationError, TemporaryError: the store rejects or does not answer.
    """
    location = locate(uri)
    with store_errors(uri):
        found = _expand(location, suffixes)
    if not found:
        raise InputMissingError(f"{uri} stands for no file", _remedy(location, suffixes))
    return sorted(found, key=lambda file: file.uri)


def file_sizes(uri: str) -> dict[str, int]:
    """Bytes of all files below a folder, by their paths below it; none where it is not there.

    Raises:
        ConfigurationError, TemporaryError: the store rejects or does not answer.
    """
    location = locate(uri)
    with store_errors(uri):
        found = store_of(location).files(location.path, lambda _: True, deep=True)
    return {file.uri.removeprefix(f"{location.uri.rstrip('/')}/"): file.size for file in found}


def is_file(location: Location) -> bool:
    """Whether a file is there."""
    return find_file(location) is not None


def find_file(location: Location) -> StoredFile | None:
    """The file at a location; None where none is.

    Raises:
        ConfigurationError, TemporaryError: the store rejects or does not answer.
    """
    with store_errors(location.uri):
        return store_of(location).find(location.path)


def open_input(uri: str) -> io.BufferedReader:
    """A file to read from its beginning.

    Raises:
        InputMissingError, ConfigurationError, TemporaryError: as `store_errors` says.
    """
    location = locate(uri)
    with store_errors(uri):
        return io.BufferedReader(store_of(location).open(location.path), _BUFFER[location.scheme])


@contextmanager
def open_native(uri: str) -> Iterator[Any]:
    """A file as pyarrow reads it, for formats that are read at random."""
    location = locate(uri)
    with store_errors(uri), store_of(location).open_native(location.path) as file:
        yield file


def read_bytes(uri: str) -> bytes:
    """A small file, whole.

    Raises:
        InputMissingError, ConfigurationError, TemporaryError: as `store_errors` says.
    """
    with store_errors(uri), open_input(uri) as file:
        return file.read()


def _expand(location: Location, suffixes: Sequence[str]) -> list[StoredFile]:
    store, path = store_of(location), location.path
    file = store.find(path)
    if file is not None:
        return [file]
    if store.is_folder(path):
        return store.files(path, lambda found: _belongs(found[len(path) :], suffixes), deep=True)
    if _GLOB_CHARACTERS.intersection(path):
        return _glob(location)
    raise InputMissingError(
        f"{location.uri} is not there", "give a file, a folder, or a glob such as file:///data/*.jsonl"
    )


def _belongs(relative: str, suffixes: Sequence[str]) -> bool:
    hidden = any(part.startswith((".", "_")) for part in relative.strip("/").split("/"))
    return not hidden and relative.lower().endswith(tuple(suffixes))


def _glob(location: Location) -> list[StoredFile]:
    parts = location.path.split("/")
    first = next(number for number, part in enumerate(parts) if _GLOB_CHARACTERS.intersection(part))
    # A pattern in the last part alone lists one folder; walking a whole volume for it could take hours.
    deep = first < len(parts) - 1 or parts[first] == "**"
    base = "/".join(parts[:first]) or "/"
    return store_of(location).files(base, lambda path: _matches(path.split("/"), parts), deep=deep)


def _matches(names: list[str], patterns: list[str]) -> bool:
    """As the shell matches with `globstar`: what `glob.translate` gives, which comes with Python 3.13."""
    if not patterns:
        return not names
    if patterns[0] == "**" and _matches(names, patterns[1:]):
        return True
    if not names or not _matches_name(names[0], patterns[0]):
        return False
    return _matches(names[1:], patterns if patterns[0] == "**" else patterns[1:])


def _matches_name(name: str, pattern: str) -> bool:
    # As in a shell, a hidden name is matched only by a pattern that begins with a dot; so is one with the `_` by which
    # Spark and Hadoop mark what is no data, as in a folder.
    marked = name.startswith((".", "_")) and not pattern.startswith(name[0])
    return fnmatch.fnmatchcase(name, pattern) and not marked


def _remedy(location: Location, suffixes: Sequence[str]) -> str:
    if _GLOB_CHARACTERS.intersection(location.path):
        return f"it {no_match(location.path)}"
    return f"the folder has no file that ends in {', '.join(suffixes)}"
