"""Input files: list what a URI stands for, open it, read it."""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyarrow.fs import FileSelector, FileType

from zerotune_trainer.errors import InputMissingError
from zerotune_trainer.storage.locations import Location, locate, store_errors

_GLOB_CHARACTERS = frozenset("*?[")
_BUFFER = 1 << 20
_REQUESTS = 16
"""Requests to S3 at once when versions are asked for, one a file."""


@dataclass(frozen=True)
class StoredFile:
    """A file, its bytes, and its version: the modification time in ns of a local file, the ETag on S3."""

    uri: str
    size: int
    version: str

    @property
    def name(self) -> str:
        """How messages name it: the path of a local file, else the URI."""
        return self.uri.removeprefix("file://")


def list_files(uri: str, suffixes: Sequence[str]) -> list[StoredFile]:
    """The files that a file, glob (`*`, `?`, `[]`, `**`) or folder stands for, sorted by path.

    A folder stands for the files below it whose names end in one of `suffixes` and do not begin with `.` or `_`.

    Raises:
        InputMissingError: there is none.
        ConfigurationError, TemporaryError: the store refuses or does not answer.
    """
    location = locate(uri)
    with store_errors(uri):
        infos = _expand(location, suffixes)
        if not infos:
            raise InputMissingError(f"{uri} stands for no file", _remedy(location, suffixes))
        with ThreadPoolExecutor(_REQUESTS) as pool:
            return list(pool.map(lambda info: _stored(location, info), sorted(infos, key=lambda info: info.path)))


def file_type(location: Location) -> Any:
    """pyarrow's FileType of what is there: File, Directory or NotFound."""
    with store_errors(location.uri):
        return location.filesystem.get_file_info(location.path).type


def is_file(location: Location) -> bool:
    """Whether a file is there."""
    return bool(file_type(location) == FileType.File)


def files_below(location: Location) -> list[Any]:
    """pyarrow's FileInfo of every file below a folder."""
    with store_errors(location.uri):
        infos = location.filesystem.get_file_info(FileSelector(location.path, recursive=True, allow_not_found=True))
    return [info for info in infos if info.type == FileType.File]


def open_input(uri: str) -> io.BufferedReader:
    """A file to read from its beginning; on S3 it is streamed.

    Raises:
        InputMissingError, ConfigurationError, TemporaryError: as `store_errors` says.
    """
    location = locate(uri)
    with store_errors(uri):
        if location.local is not None:
            return io.BufferedReader(location.local.open("rb", buffering=0), _BUFFER)
        return io.BufferedReader(location.filesystem.open_input_stream(location.path, compression=None), _BUFFER)


@contextmanager
def open_native(uri: str) -> Iterator[Any]:
    """A file as pyarrow opens it, for formats that are read at random."""
    location = locate(uri)
    with store_errors(uri), location.filesystem.open_input_file(location.path) as file:
        yield file


def read_bytes(uri: str) -> bytes:
    """A small file, whole.

    Raises:
        InputMissingError, ConfigurationError, TemporaryError: as `store_errors` says.
    """
    with store_errors(uri), open_input(uri) as file:
        return file.read()


def _expand(location: Location, suffixes: Sequence[str]) -> list[Any]:
    info = location.filesystem.get_file_info(location.path)
    if info.type == FileType.File:
        return [info]
    if info.type == FileType.Directory:
        return [file for file in files_below(location) if _belongs(file.path[len(location.path) :], suffixes)]
    if _GLOB_CHARACTERS.intersection(location.path):
        return _glob(location)
    raise InputMissingError(
        f"{location.uri} is not there", "give a file, a folder, or a glob such as file:///data/*.jsonl"
    )


def _belongs(relative: str, suffixes: Sequence[str]) -> bool:
    hidden = any(part.startswith((".", "_")) for part in relative.strip("/").split("/"))
    return not hidden and relative.endswith(tuple(suffixes))


def _glob(location: Location) -> list[Any]:
    parts = location.path.split("/")
    first = next(number for number, part in enumerate(parts) if _GLOB_CHARACTERS.intersection(part))
    base = location.at("/".join(parts[:first]) or "/")
    # A pattern in the last part alone looks at one folder; walking a whole volume for it could take hours.
    deep = first < len(parts) - 1 or parts[first] == "**"
    infos = base.filesystem.get_file_info(FileSelector(base.path, recursive=deep, allow_not_found=True))
    return [info for info in infos if info.type == FileType.File and _matches(info.path.split("/"), parts)]


def _matches(names: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**" and _matches(names, patterns[1:]):
        return True
    if not names or not _matches_name(names[0], patterns[0]):
        return False
    return _matches(names[1:], patterns if patterns[0] == "**" else patterns[1:])


def _matches_name(name: str, pattern: str) -> bool:
    # As in a shell, a hidden name is matched only by a pattern that begins with a dot.
    return fnmatch.fnmatchcase(name, pattern) and (pattern.startswith(".") or not name.startswith("."))


def _stored(location: Location, info: Any) -> StoredFile:
    uri = f"{location.scheme}://{info.path}"
    if location.local is not None:
        return StoredFile(uri, info.size, str(info.mtime_ns))
    # pyarrow's listing leaves the ETag out; opening the object asks for it without reading.
    with location.filesystem.open_input_stream(info.path, compression=None) as stream:
        return StoredFile(uri, info.size, stream.metadata()["ETag"].decode())


def _remedy(location: Location, suffixes: Sequence[str]) -> str:
    if _GLOB_CHARACTERS.intersection(location.path):
        return "no path matches the pattern"
    return f"the folder has no file that ends in {', '.join(suffixes)}"
