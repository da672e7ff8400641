"""Records as rows of token ids and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from zerotune_trainer.config.data import Data
from zerotune_trainer.data.columns import RecordColumns
from zerotune_trainer.data.encoding import Offsets
from zerotune_trainer.data.formatting import Formatter, Text, Tokens
from zerotune_trainer.data.labels import IGNORE_INDEX, is_learnable
from zerotune_trainer.data.masks import Span
from zerotune_trainer.data.processing import Process
from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import DataError

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Row:
    """A record as tokens: ids and labels, int32, of one length."""

    ids: Ids
    labels: Ids
    sequences: tuple[int, ...] | None = None
    """Lengths of the sequences that stand in it end to end, where it holds several."""
    desirable: bool | None = None
    """Whether its completion is good, where it was judged."""

    @property
    def prompt(self) -> int:
        """Tokens before the first that counts in the loss."""
        return int(np.argmax(self.labels != IGNORE_INDEX))

    @property
    def is_learnable(self) -> bool:
        """Whether a model that predicts the next token learns any of it."""
        return is_learnable(self.labels)

    def without_start(self, tokens: int) -> Row:
        """The row without its first tokens."""
        return replace(self, ids=self.ids[tokens:], labels=self.labels[tokens:])


@dataclass
class Rows:
    """The rows of a run of records, in order, and what became of the records that are not among them as they were."""

    rows: list[Row] = field(default_factory=list)
    records: int = 0
    skipped: int = 0
    truncated: int = 0
    dropped_tokens: int = 0
    """Tokens of records that were skipped, or cut off."""
    reasons: list[str] = field(default_factory=list)
    """Of each record that was skipped its place, and why."""

    def skip(self, record: Record, tokens: int, reason: str) -> None:
        """Leave a record out, of so many tokens."""
        self.skipped += 1
        self.dropped_tokens += tokens
        self.reasons.append(f"{record.location}: {reason}")


class RecordTokenizer:
    """Records to rows. The same records give the same rows, in whatever process."""

    def __init__(
        self,
        data: Data,
        tokenizer: PreTrainedTokenizerBase,
        columns: RecordColumns,
        process: Process,
        *,
        packed: bool,
        created: datetime | None = None,
    ) -> None:
        self._data = data
        self._formatter = Formatter(data, tokenizer, columns, created)
        self._encoder = self._formatter.encoder
        self._process = process
        self._packed = packed

    def __call__(self, records: Sequence[Record]) -> Rows:
        """Tokenize.

        Raises:
            DataError, InputMissingError: a record is bad; the message has its file and line.
        """
        processed = [self._process(record) for record in records]
        result = Rows(records=len(records))
        for record, row in zip(processed, self.rows(processed), strict=True):
            self._add(result, record, row)
        return result

    def rows(self, records: Sequence[Record]) -> list[Row]:
        """A row a record, however long.

        Raises:
            DataError, InputMissingError: as `__call__`.
        """
        formatted = [self._formatter(record) for record in records]
        texts = [each for each in formatted if isinstance(each, Text)]
        encoded = iter(self._encode(texts))
        return [_row(each) if isinstance(each, Tokens) else next(encoded) for each in formatted]

    def _encode(self, texts: list[Text]) -> list[Row]:
        if not texts:
            return []
        marked = any(text.spans is not None for text in texts)
        # Records of one layout are all documents or all conversations.
        encoded = self._encoder.batch([text.text for text in texts], special=texts[0].document, offsets=marked)
        return [self._labelled(text, *tokens) for text, tokens in zip(texts, encoded, strict=True)]

    def _labelled(self, text: Text, ids: list[int], offsets: Offsets) -> Row:
        size = len(ids)
        closed = self._encoder.closed(ids) if text.document else ids
        row = np.asarray(closed, dtype=np.int32)
        if text.spans is None:
            return Row(row, row)
        counts = np.zeros(len(closed), dtype=bool)
        counts[:size] = _within(offsets, text.spans)[: len(closed)]
        if text.document:
            counts[-1] = text.spans[-1][1] == len(text.text)
        return Row(row, np.where(counts, row, IGNORE_INDEX).astype(np.int32))

    def _add(self, result: Rows, record: Record, row: Row) -> None:
        size, longest = len(row.ids), self._data.max_length
        if not self._packed and size > longest:
            self._shorten(result, record, row)
        elif not row.is_learnable:
            raise DataError(
                f"{record.location}: no token of the record counts in the loss and follows another",
                "remove the record, or see data.loss and the columns that data.columns names",
            )
        else:
            result.rows.append(row)

    def _shorten(self, result: Rows, record: Record, row: Row) -> None:
        size, longest = len(row.ids), self._data.max_length
        too_long = f"{size} tokens are more than data.maxLength {longest}"
        if self._data.overflow == "error":
            raise DataError(
                f"{record.location}: {too_long}",
                "raise data.maxLength, set data.packing, or set data.overflow to truncate or skip",
            )
        kept = slice(longest) if self._data.truncation_side == "right" else slice(size - longest, size)
        cut = Row(row.ids[kept], row.labels[kept])
        # A row without loss would teach nothing, and its mean loss is 0 / 0.
        if self._data.overflow == "truncate" and cut.is_learnable:
            result.rows.append(cut)
            result.truncated += 1
            result.dropped_tokens += size - longest
        elif self._data.overflow == "truncate":
            result.skip(record, size, f"{too_long}, and nothing that counts in the loss is left of it when it is cut")
        else:
            result.skip(record, size, too_long)


def _row(tokens: Tokens) -> Row:
    return Row(np.asarray(tokens.ids, dtype=np.int32), np.asarray(tokens.labels, dtype=np.int32))


def _within(offsets: Offsets, spans: list[Span]) -> NDArray[np.bool_]:
    """Which tokens begin within the spans."""
    places = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    # Some tokenizers trim offsets: a token of white space alone stands for nothing, and begins where the last ended.
    before = np.concatenate([[0], places[:-1, 1]]) if len(places) else places[:, 1]
    begins = np.where(places[:, 0] == places[:, 1], before, places[:, 0])
    within = np.zeros(len(offsets), dtype=bool)
    for begin, end in spans:
        within |= (begins >= begin) & (begins < end)
    return within
