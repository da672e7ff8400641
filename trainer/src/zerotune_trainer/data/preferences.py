"""Preference records in TRL's formats, each as prompts with completions.

    pair      `chosen` and `rejected`, with a `prompt` or with the prompt as what both begin with
    judged    `prompt`, `completion` and `label`: whether the completion is good (kto)

Prompt and completions are text, or lists of messages. A prompt that is text before lists of messages is one message of
the user, unless both lists begin with it already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zerotune_trainer.config.data import Columns
from zerotune_trainer.data.columns import cell_of
from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError

_LABELS = {"true": True, "1": True, "false": False, "0": False}
"""What a label may be as text, whatever its case."""


@dataclass(frozen=True)
class PreferenceColumns:
    """The columns of preference records."""

    layout: Literal["pair", "judged"]
    completions: tuple[str, ...]
    """`chosen` and `rejected`, or `completion`."""
    prompt: str = "prompt"
    label: str = "label"

    def explicit(self, record: Record) -> Record:
        """The record with prompt and completions apart, all of them text or all of them messages.

        Raises:
            InputMissingError: a column is not there.
            DataError: a column is empty, the cells are of different kinds, the completions are the same, or they share
                no prompt.
        """
        cells = [cell_of(record, name) for name in self.completions]
        prompt = record.values.get(self.prompt)
        self._check_kinds(record, cells)
        self._check_different(record, cells)
        if self.layout == "judged" or (prompt is not None and isinstance(prompt, list) == isinstance(cells[0], list)):
            return self._checked(record, prompt, cells)
        shared = _shared(cells)
        if prompt is not None and not shared:
            return self._with(record, [{"role": "user", "content": prompt}], cells)
        return self._with(record, *self._divided(record, shared, cells))

    def desirable(self, record: Record) -> bool:
        """Whether the completion is good.

        Raises:
            InputMissingError: there is no label.
            DataError: it is neither true nor false.
        """
        label = cell_of(record, self.label)
        # Of csv every cell is a text.
        known = _LABELS.get(label.strip().lower()) if isinstance(label, str) else None
        if known is not None:
            return known
        if isinstance(label, bool) or (isinstance(label, int) and label in (0, 1)):
            return bool(label)
        raise DataError(
            f"{record.location}: column {self.label!r} holds {label!r:.40}, which is neither true nor false",
            "write true for a good completion and false for a bad one",
        )

    def _check_kinds(self, record: Record, cells: list[Any]) -> None:
        kinds = {type(cell) for cell in cells}
        if len(kinds) > 1 or not kinds <= {str, list}:
            found = " and ".join(type(cell).__name__ for cell in cells)
            raise DataError(
                f"{record.location}: {' and '.join(map(repr, self.completions))} hold {found}",
                "write text, or a list of messages, in both",
            )

    def _check_different(self, record: Record, cells: list[Any]) -> None:
        if self.layout == "pair" and cells[0] == cells[1]:
            raise DataError(
                f"{record.location}: {' and '.join(map(repr, self.completions))} are the same: neither is better",
                "remove the record, or write two completions",
            )

    def _check_answers(self, record: Record, cells: list[Any]) -> None:
        """See that conversations go on with what the model says."""
        for column, cell in zip(self.completions, cells, strict=True):
            first = cell[0] if isinstance(cell, list) and cell else None
            role = first.get("role") if isinstance(first, dict) else "assistant"
            if role != "assistant":
                raise DataError(
                    f"{record.location}: the completion in column {column!r} begins with a message of role {role!r}",
                    f"let it begin with one of role assistant; what comes before is the prompt, in column "
                    f"{self.prompt!r}",
                )

    def _checked(self, record: Record, prompt: Any, cells: list[Any]) -> Record:
        self._check_answers(record, cells)
        if isinstance(cell_of(record, self.prompt), list) != isinstance(cells[0], list):
            found = f"{type(prompt).__name__} and {type(cells[0]).__name__}"
            raise DataError(
                f"{record.location}: columns {self.prompt!r} and {self.completions[0]!r} hold {found}",
                "write text in both, or a list of messages in both",
            )
        return record

    def _divided(self, record: Record, shared: Any, cells: list[Any]) -> tuple[Any, list[Any]]:
        rests = [cell[len(shared) :] for cell in cells]
        if shared and all(rests):
            return shared, rests
        raise DataError(
            f"{record.location}: {' and '.join(map(repr, self.completions))} have no prompt in common that each goes "
            "on after",
            f"give the prompt in a column {self.prompt!r}, or remove the record",
        )

    def _with(self, record: Record, prompt: Any, cells: list[Any]) -> Record:
        self._check_answers(record, cells)
        apart = dict(zip(self.completions, cells, strict=True))
        return record._replace(values=record.values | {self.prompt: prompt} | apart)


def resolve_preferences(columns: Columns, record: Record, *, judged: bool) -> PreferenceColumns:
    """The columns of records like this one; those the spec names win.

    Args:
        columns: The spec's.
        record: The first one.
        judged: Whether completions with a label will do (kto).

    Raises:
        ConfigurationError: the spec names columns that the method does not read.
        InputMissingError: the record has none of the columns.
    """
    _check_named(columns, judged=judged)
    prompt, label = columns.prompt or "prompt", columns.label or "label"
    completion, pair = columns.completion or "completion", (columns.chosen or "chosen", columns.rejected or "rejected")
    if judged and columns.chosen is None and (columns.label or {completion, label} <= record.values.keys()):
        return PreferenceColumns("judged", (completion,), prompt, label)
    if columns.chosen or set(pair) <= record.values.keys():
        return PreferenceColumns("pair", pair, prompt)
    wanted = "prompt, completion and label, or chosen and rejected" if judged else "chosen and rejected"
    raise InputMissingError(
        f"{record.location}: the method reads the columns {wanted}, and there are {', '.join(record.values) or 'none'}",
        "name the columns in data.columns",
    )


def _check_named(columns: Columns, *, judged: bool) -> None:
    unread = {"text", "messages"} | (set() if judged else {"completion", "label"})
    named = sorted(name for name in unread if getattr(columns, name) is not None)
    if named:
        raise ConfigurationError(
            f"data.columns names {' and '.join(named)}, which the method does not read",
            "name prompt, chosen and rejected" + (", or prompt, completion and label" if judged else ""),
        )


def _shared(cells: list[Any]) -> Any:
    """What both begin with: messages, or text without the space at its end, which belongs to the completions."""
    shared = cells[0][: _equal(cells[0], cells[1])]
    return shared[:-1] if isinstance(shared, str) and shared.endswith(" ") else shared


def _equal(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many messages or characters from the first on are equal."""
    shorter = min(len(first), len(second))
    return next((number for number in range(shorter) if first[number] != second[number]), shorter)
