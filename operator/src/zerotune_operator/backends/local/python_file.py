"""A Python file of the user's on this machine, looked at without running any of it."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from zerotune_operator.backends.python_source import Function, require_source
from zerotune_trainer.errors import ConfigurationError, InputMissingError, ZerotuneError

_MOST_BYTES = 16 << 20
"""Far more than code takes; what is read stays bounded, whatever the file is."""


def python_problem(field: str, path: Path, used: Sequence[Function]) -> ZerotuneError | None:
    """What is wrong with a Python file of a job; None where nothing is, as far as its text shows.

    Args:
        field: What names it in the spec: `plugin.file`.
        path: The file.
        used: The functions and classes that the job uses of it.
    """
    try:
        require_source(field, str(path), _read(field, path), used)
    except ZerotuneError as error:
        return error
    return None


def _read(field: str, path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ConfigurationError(f"{field}: {path} is a folder", f"name the Python file: file://{path}/NAME.py")
        if not stat.S_ISREG(mode):
            raise ConfigurationError(f"{field}: {path} is no file, but a device, pipe or socket", "name a Python file")
        with path.open("rb") as file:
            source = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise InputMissingError(f"{field}: {path} is not there", "check the path") from error
    except OSError as error:
        raise InputMissingError(f"{field}: {path} cannot be read: {error.strerror}", "name a file to read") from error
    if len(source) > _MOST_BYTES:
        raise ConfigurationError(
            f"{field}: {path} has more than {_MOST_BYTES >> 20} MiB, and code has not", "name a Python file"
        )
    return source
