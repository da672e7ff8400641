"""Which columns of a record hold what: as the spec names them, else by their usual names."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from zerotune_trainer.config.data import Columns
from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError

Layout = Literal["tokens", "messages", "prompt_completion", "text"]
"""What records hold. `tokens`: token ids, as `zerotune data prepare` writes them."""

_USUAL: dict[Layout, tuple[str, ...]] = {
    "tokens": ("input_ids",),
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
}


@dataclass(frozen=True)
class RecordColumns:
    """What records hold, and the columns that hold it."""

    layout: Layout
    names: tuple[str, ...]

    def cells(self, record: Record) -> list[Any]:
        """The values of the columns, in the order of `names`.

        Raises:
            InputMissingError: the record lacks one.
            DataError: one is null.
        """
        return [cell_of(record, name) for name in self.names]


def resolve_columns(columns: Columns, record: Record) -> RecordColumns:
    """What records like this one hold.

    Columns the spec names win; else the first that is there: `input_ids`; `messages`; `prompt`, `completion`; `text`.

    Raises:
        ConfigurationError: the spec names columns of several layouts, or a prompt without a completion.
        InputMissingError: the record has none of the usual columns.
    """
    named = _named(columns)
    if named is not None:
        return named
    for layout, names in _USUAL.items():
        if all(name in record.values for name in names):
            return RecordColumns(layout, names)
    raise InputMissingError(
        f"{record.location}: none of the columns {_listed(record.values)} is one that is read: "
        "messages, prompt and completion, or text",
        "name the column as data.columns.text, .messages, or .prompt and .completion",
    )


def cell_of(record: Record, name: str) -> Any:
    """The value of a column.

    Raises:
        InputMissingError: the record lacks it.
        DataError: it is null.
    """
    if name not in record.values:
        raise InputMissingError(f"{record.location}: no column {name!r}", did_you_mean(name, list(record.values)))
    if record.values[name] is None:
        raise DataError(f"{record.location}: column {name!r} is null", "remove the record, or fill the column")
    return record.values[name]


def text_of(value: Any, record: Record, name: str) -> str:
    """A cell that must be text.

    Raises:
        DataError: it is something else, or empty.
    """
    if not isinstance(value, str):
        found = type(value).__name__
        raise DataError(f"{record.location}: column {name!r} holds {found} where text is wanted", "write a string")
    if not value.strip():
        what = "holds white space alone" if value else "is empty"
        raise DataError(f"{record.location}: column {name!r} {what}", "remove the record, or fill the column")
    return value


def did_you_mean(name: str, names: Collection[str]) -> str:
    """A hint that lists what there is, and the nearest of it first."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}? There are {_listed(names)}" if near else f"there are {_listed(names)}"


def _named(columns: Columns) -> RecordColumns | None:
    if columns.chosen is not None or columns.rejected is not None or columns.label is not None:
        raise ConfigurationError(
            "data.columns names chosen, rejected or label, which methods cpt and sft do not read",
            "leave them out, or use a method for preferences",
        )
    pair = (columns.prompt, columns.completion)
    found: list[RecordColumns] = []
    if columns.messages is not None:
        found.append(RecordColumns("messages", (columns.messages,)))
    if columns.text is not None:
        found.append(RecordColumns("text", (columns.text,)))
    if columns.prompt is not None and columns.completion is not None:
        found.append(RecordColumns("prompt_completion", (columns.prompt, columns.completion)))
    elif pair != (None, None):
        raise ConfigurationError("data.columns names only one of prompt and completion", "name both")
    if len(found) > 1:
        layouts = " and ".join(each.layout for each in found)
        raise ConfigurationError(f"data.columns names columns for {layouts}", "keep those of one")
    return found[0] if found else None


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
