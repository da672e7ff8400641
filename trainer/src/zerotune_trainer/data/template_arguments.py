"""What a chat template is given besides the messages: tools, and arguments of the job or of the record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from zerotune_trainer.data.columns import did_you_mean
from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import DataError, InputMissingError

_TOOLS, _ARGUMENTS = "tools", "chat_template_kwargs"
"""The usual names of the two columns, as TRL has them."""


@dataclass(frozen=True)
class TemplateArguments:
    """Where they come from."""

    of_job: dict[str, Any] = field(default_factory=dict)
    """`data.chatTemplateKwargs`."""
    tools: str | None = None
    """`data.columns.tools`."""

    def of(self, record: Record) -> dict[str, Any]:
        """The arguments for a record; those of the record win.

        Raises:
            InputMissingError: the column of tools that the spec names is not there.
            DataError: a column holds something else.
        """
        if self.tools is not None and self.tools not in record.values:
            hint = did_you_mean(self.tools, list(record.values))
            raise InputMissingError(f"{record.location}: no column {self.tools!r}", hint)
        arguments = {**self.of_job, **_cell(record, _ARGUMENTS, dict, "an object")}
        tools = _cell(record, self.tools or _TOOLS, list, "a list of JSON schemas")
        return {**arguments, "tools": tools} if tools else arguments


def without_nulls(value: Any) -> Any:
    """A value without keys that are null, at any depth: a columnar format gives every struct the keys of all others."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def _cell(record: Record, name: str, kind: type, wanted: str) -> Any:
    """A cell, also where it is written as JSON; empty where there is none."""
    value = record.values.get(name)
    if isinstance(value, str):
        try:
            value = orjson.loads(value) if value.strip() else None
        except orjson.JSONDecodeError as error:
            raise DataError(f"{record.location}: column {name!r} is not JSON: {error}", f"write {wanted}") from error
    if value is None:
        return kind()
    if not isinstance(value, kind):
        found = type(value).__name__
        raise DataError(f"{record.location}: column {name!r} holds {found} where {wanted} is wanted", f"write {wanted}")
    return without_nulls(value)
