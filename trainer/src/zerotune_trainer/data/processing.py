"""Functions of the user's plug-in that make a record, before anything else reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zerotune_trainer.config.functions import FORMATTING, PROCESSING, Signature
from zerotune_trainer.config.plugin import Plugin, RecordPlugin
from zerotune_trainer.data.readers import Record
from zerotune_trainer.plugin import LoadedPlugin, load_plugin

Process = Callable[[Record], Record]
"""A record to the record to use instead."""


def load_processing(plugin: Plugin | RecordPlugin | None) -> Process:
    """What the plug-in's `processing` makes of a record; without one records stay as they are.

    The function runs in the process that tokenizes, so the same file gives the same records offline and at job start.

    Raises:
        InputMissingError, ConfigurationError: as `load_plugin`, or its function is not there, or not one of a record.
    """
    name = plugin.processing if plugin else None
    loaded = load_plugin(plugin) if name else None
    if loaded is None or name is None:
        return lambda record: record
    return _of_record(loaded, name, PROCESSING, _columns)


def load_formatting(plugin: Plugin | None) -> Process:
    """The same, and then what `formattingFunc` makes of it: a record with a column `text` or `messages` alone.

    Raises:
        InputMissingError, ConfigurationError: as `load_processing`.
    """
    process = load_processing(plugin)
    name = plugin.formatting_func if plugin else None
    loaded = load_plugin(plugin) if name else None
    if loaded is None or name is None:
        return process
    formatted = _of_record(loaded, name, FORMATTING, _text_or_messages)
    return lambda record: formatted(process(record))


_Columns = Callable[[Any], dict[str, Any] | None]
"""What a function returned as the columns of a record; None where it may not return that."""


def _of_record(plugin: LoadedPlugin, name: str, signature: Signature, columns: _Columns) -> Process:
    function = plugin.function(name, signature)

    def process(record: Record) -> Record:
        place = f"at {record.location}"
        with plugin.errors(name, place):
            returned = function(dict(record.values))
        values = columns(returned)
        if values is None:
            raise plugin.wrong(name, place, f"returned {type(returned).__name__}", f"define {signature.text}")
        return record._replace(values=values)

    return process


def _columns(returned: Any) -> dict[str, Any] | None:
    return returned if isinstance(returned, dict) else None


def _text_or_messages(returned: Any) -> dict[str, Any] | None:
    if isinstance(returned, str):
        return {"text": returned}
    return {"messages": returned} if isinstance(returned, list) else None
