"""A function of the user's, applied to every record before anything else."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from zerotune_trainer import storage
from zerotune_trainer.config.data import Processing
from zerotune_trainer.data.columns import did_you_mean
from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError

Process = Callable[[Record], Record]
"""A record to the record to use instead."""


def load_processing(processing: Processing | None) -> Process:
    """The function a job names, ready to apply; without one records stay as they are.

    The function runs in the process that tokenizes, so the same file gives the same records offline and at job start.

    Raises:
        InputMissingError: no such file, or no such function in it.
        ConfigurationError: the file cannot be executed.
    """
    if processing is None:
        return lambda record: record
    function = _function(processing)
    name = f"{processing.file}:{processing.function}"

    def process(record: Record) -> Record:
        try:
            values = function(dict(record.values))
        except (Exception, SystemExit) as error:
            what = f"{type(error).__name__}: {error}"
            raise DataError(f"{name} failed at {record.location}: {what}", "make it cope with this record") from error
        if not isinstance(values, dict):
            found = type(values).__name__
            raise DataError(f"{name} returned {found} at {record.location}", "return a dict of columns")
        return record._replace(values=values)

    return process


def _function(processing: Processing) -> Callable[[dict[str, Any]], Any]:
    module = ModuleType("zerotune_processing")
    module.__file__ = processing.file
    source = storage.read_bytes(processing.file)
    try:
        exec(compile(source, processing.file, "exec"), module.__dict__)  # noqa: S102 - running it is what was asked for
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"{processing.file} cannot be executed: {what}", "try it with python") from error
    function: Callable[[dict[str, Any]], Any] | None = getattr(module, processing.function, None)
    if not callable(function):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise InputMissingError(
            f"{processing.file} defines no function {processing.function!r}", did_you_mean(processing.function, names)
        )
    return function
