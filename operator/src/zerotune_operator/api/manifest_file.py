"""The text of a manifest: a file, or standard input. What is read is bounded, and nothing is waited for."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import BinaryIO

from zerotune_trainer.errors import ConfigurationError, InputMissingError

STANDARD_INPUT = Path("-")
MOST_BYTES = 4 << 20
"""Of a manifest: more than the 1.5 MiB that the API server takes of an object."""


def read_manifest(path: Path) -> str:
    """The text of a file; that of standard input for the path `-`.

    Raises:
        InputMissingError: there is no such file, or it cannot be read.
        ConfigurationError: it is no file but a folder, pipe or device, is larger than `MOST_BYTES`, or is not UTF-8.
    """
    content = _read(sys.stdin.buffer) if path == STANDARD_INPUT else _read_file(path)
    if len(content) > MOST_BYTES:
        raise ConfigurationError(
            f"{path} has more than {MOST_BYTES >> 20} MiB, the most that a manifest may have",
            "name a file with jobs alone; a large one can be divided",
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8: byte {error.start}", "save it as UTF-8") from error


def _read_file(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ConfigurationError(f"{path} is a folder", "name the files in it")
        if not stat.S_ISREG(mode):  # To open a pipe waits for a writer, and a device may have no end.
            raise ConfigurationError(
                f"{path} is no file, but a pipe, device or socket", "name a file, or write - to read standard input"
            )
        with path.open("rb") as file:
            return _read(file)
    except FileNotFoundError as error:
        raise InputMissingError(f"{path} is not there", "name a file with a FineTuneJob or an InferenceJob") from error
    except OSError as error:
        raise InputMissingError(f"{path} cannot be read: {error.strerror}", "name a file that you can read") from error


def _read(file: BinaryIO) -> bytes:
    return file.read(MOST_BYTES + 1)
