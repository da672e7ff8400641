"""Text files as lines: decompressed and decoded, with the place where that fails."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from zerotune_trainer import storage
from zerotune_trainer.data.files import DataFile
from zerotune_trainer.errors import DataError
from zerotune_trainer.input_errors import recognize

_BOM = b"\xef\xbb\xbf"
_EXCERPT = 80


@contextmanager
def open_lines(file: DataFile, offset: int = 0) -> Iterator[Iterator[bytes]]:
    """The lines of a file, with their ends, without a byte order mark; `.gz` is decompressed.

    Args:
        file: The file.
        offset: Where the first of the lines begins, in bytes; 0 where it is compressed.

    Raises:
        DataError: the compressed file is cut off or broken.
    """
    with storage.open_input(file.uri) as binary:
        if offset:
            binary.seek(offset)
            yield iter(binary)
        else:
            yield _decompressed(file, binary) if is_compressed(file) else without_mark(binary)


def is_compressed(file: DataFile) -> bool:
    """Whether its lines are compressed."""
    return file.uri.endswith(".gz")


def decoded(file: DataFile, lines: Iterator[bytes]) -> Iterator[str]:
    """Lines as text.

    Raises:
        DataError: a line is not UTF-8; names the line and the byte of the file.
    """
    offset = 0
    for number, line in enumerate(lines, start=1):
        yield decode(file, number, line, offset)
        offset += len(line)


def decode(file: DataFile, number: int, line: bytes, offset: int | None = None) -> str:
    """A line as text; `offset` is where it begins in the file, where the caller knows.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        place = f"byte {error.start} of the line" if offset is None else f"byte {offset + error.start} of the file"
        raise DataError(
            f"{file.name}:{number}: {place} (0x{line[error.start]:02x}) is not UTF-8: {error.reason}",
            (recognize(line) if number == 1 else "") or "convert the file to UTF-8, for example with iconv",
        ) from error


def excerpt(line: bytes) -> str:
    """The beginning of a line, for a message."""
    text = line.decode(errors="replace")
    return repr(text if len(text) <= _EXCERPT else text[:_EXCERPT] + "...")


def without_mark(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without the byte order mark that the first of them may begin with."""
    for number, line in enumerate(lines):
        yield line.removeprefix(_BOM) if number == 0 else line


def _decompressed(file: DataFile, binary: BinaryIO) -> Iterator[bytes]:
    number = 0
    try:
        with gzip.open(binary) as lines:
            for line in without_mark(lines):
                number += 1
                yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{file.name}:{number + 1}: the gzip data is cut off or broken: {error}",
            "fetch or write the file again; `gzip -t` checks it",
        ) from error
