"""Preference records as rows of tokens.

    pair      a row has the chosen sequence and then the rejected one, each the prompt with its completion
    judged    a row has one sequence, and whether its completion is good; a pair gives two such rows for kto

What is too long loses the beginning of its prompt, never a token of a completion: a record whose completion leaves no
room for a token of the prompt is skipped, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
from transformers import PreTrainedTokenizerBase

from zerotune_trainer.config.data import Data
from zerotune_trainer.config.training import Preference
from zerotune_trainer.data.columns import RecordColumns, cell_of
from zerotune_trainer.data.preferences import PreferenceColumns
from zerotune_trainer.data.processing import Process
from zerotune_trainer.data.readers import Record
from zerotune_trainer.data.tokens import RecordTokenizer, Row, Rows
from zerotune_trainer.errors import ConfigurationError, DataError


class PreferenceTokenizer:
    """Preference records to rows. Prompt and completion become tokens as those of sft do."""

    def __init__(
        self,
        data: Data,
        preference: Preference,
        tokenizer: PreTrainedTokenizerBase,
        columns: PreferenceColumns,
        process: Process,
        *,
        judged: bool,
        created: datetime | None = None,
    ) -> None:
        """Decide how.

        Args:
            data: The spec's; `loss` is that of completions.
            preference: The spec's options.
            tokenizer: The model's.
            columns: What the records hold.
            process: The user's function.
            judged: Whether a row is one completion (kto) and not a pair.
            created: When the job was created, see `Chat`.

        Raises:
            ConfigurationError: `data.loss` asks for another loss.
        """
        if data.loss not in (None, "completion"):
            raise ConfigurationError(
                f"data.loss: {data.loss} is for methods cpt and sft: preferences are about completions",
                "leave data.loss out",
            )
        self._data = data
        self._longest_prompt = preference.max_prompt_length
        self._columns = columns
        self._process = process
        self._judged = judged
        self._tokenizers = [
            RecordTokenizer(
                data.model_copy(update={"loss": "completion"}),
                tokenizer,
                RecordColumns("prompt_completion", (columns.prompt, name)),
                process,
                packed=False,
                created=created,
            )
            for name in columns.completions
        ]

    def __call__(self, records: Sequence[Record]) -> Rows:
        """Tokenize.

        Raises:
            DataError, InputMissingError: a record is bad; the message has its file and line.
        """
        explicit = [self._columns.explicit(self._process(record)) for record in records]
        result = Rows(records=len(records))
        sequences = zip(*(tokenizer.rows(explicit) for tokenizer in self._tokenizers), strict=True)
        for record, rows in zip(explicit, sequences, strict=True):
            self._add(result, record, list(rows))
        return result

    def _add(self, result: Rows, record: Record, rows: list[Row]) -> None:
        if not all(row.is_learnable for row in rows):
            raise DataError(f"{record.location}: a completion has no tokens", "remove the record, or write one")
        before = sum(len(row.ids) for row in rows)
        shortened = self._shortened(record, rows)
        if not shortened:
            result.skip(record, before, self._reason(rows))
            return
        result.dropped_tokens += before - sum(len(row.ids) for row in shortened)
        result.truncated += any(len(row.ids) < len(old.ids) for row, old in zip(shortened, rows, strict=True))
        result.rows += self._joined(record, shortened)

    def _shortened(self, record: Record, rows: list[Row]) -> list[Row]:
        """The sequences with room for their completions; none where the record is to be skipped."""
        longest = self._data.max_length
        rows = rows if self._longest_prompt is None else _with_prompts(rows, self._longest_prompt)
        size = max(len(row.ids) for row in rows)
        if size <= longest:
            return rows
        if self._data.overflow == "error":
            raise DataError(
                f"{record.location}: {size} tokens are more than data.maxLength {longest}",
                "raise data.maxLength, or set preference.maxPromptLength, or data.overflow to truncate or skip",
            )
        room = longest - max(len(row.ids) - row.prompt for row in rows)
        return _with_prompts(rows, room) if self._data.overflow == "truncate" and room > 0 else []

    def _reason(self, rows: list[Row]) -> str:
        """Why a record is skipped."""
        longest = self._data.max_length
        if self._data.overflow == "truncate":
            completion = max(len(row.ids) - row.prompt for row in rows)
            return f"a completion of {completion} tokens leaves no room for a prompt in data.maxLength {longest}"
        return f"{max(len(row.ids) for row in rows)} tokens are more than data.maxLength {longest}"

    def _joined(self, record: Record, rows: list[Row]) -> list[Row]:
        if self._columns.layout == "judged":
            return [replace(rows[0], desirable=self._columns.desirable(record))]
        if self._judged:
            return [replace(row, desirable=good) for row, good in zip(rows, (True, False), strict=True)]
        ids, labels = (np.concatenate([getattr(row, name) for row in rows]) for name in ("ids", "labels"))
        return [Row(ids, labels, sequences=tuple(len(row.ids) for row in rows))]


def _with_prompts(rows: list[Row], tokens: int) -> list[Row]:
    """The sequences with at most so many tokens of the prompt, its last."""
    return [row.without_start(max(0, row.prompt - tokens)) for row in rows]


class TokenizedPreferences:
    """Records that hold rows already, as `zerotune data prepare` writes them."""

    def __init__(self, data: Data, tokenizer: PreTrainedTokenizerBase, process: Process, *, judged: bool) -> None:
        self._longest = data.max_length
        self._judged = judged
        self._process = process
        columns = RecordColumns("tokens", ("input_ids",))
        self._tokenizer = RecordTokenizer(data, tokenizer, columns, process, packed=False)

    def __call__(self, records: Sequence[Record]) -> Rows:
        """Take the rows as they are.

        Raises:
            DataError, InputMissingError: a record is bad; the message has its file and line.
        """
        processed = [self._process(record) for record in records]
        rows = zip(processed, self._tokenizer.rows(processed), strict=True)
        return Rows([self._completed(record, row) for record, row in rows], records=len(records))

    def _completed(self, record: Record, row: Row) -> Row:
        """The row with what the columns besides ids and labels hold."""
        judgements = cell_of(record, "desirable") if self._judged else []
        lengths = [len(row.ids)] if self._judged else cell_of(record, "seq_lengths")
        if sum(lengths) != len(row.ids) or len(lengths) + len(judgements) != 2:
            raise DataError(
                f"{record.location}: the columns seq_lengths and desirable do not go with {len(row.ids)} input_ids and "
                "the method",
                "prepare the records with the job that trains on them",
            )
        if max(lengths) > self._longest:
            raise DataError(
                f"{record.location}: {max(lengths)} tokens are more than data.maxLength {self._longest}",
                "raise data.maxLength, or prepare the records with this one",
            )
        return replace(row, desirable=bool(judgements[0])) if self._judged else replace(row, sequences=tuple(lengths))
