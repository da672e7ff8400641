"""Rows as Arrow tables: columns `input_ids` and `labels`, int32.

Besides there are `seq_lengths` where documents, or the sequences of a pair, share a row, and `desirable`, 0 or 1, where
completions were judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zerotune_trainer.data.counts import SplitCounts
from zerotune_trainer.data.labels import IGNORE_INDEX, learnable_rows
from zerotune_trainer.data.mapped import MappedRows
from zerotune_trainer.data.tokens import Row

_ROWS_NAME = "rows.arrow"
_COUNTS_NAME = "counts.json"
_SKIPPED_NAME = "skipped.txt"

Flat = NDArray[np.int32]
"""Rows end to end, of shape (2, tokens): ids, labels."""


def table_of(rows: list[Row]) -> Any:
    """Rows, at least one, as a table; all of them hold one sequence, or several."""
    flat = np.stack([np.concatenate([row.ids for row in rows]), np.concatenate([row.labels for row in rows])])
    table = table_of_flat(flat, [len(row.ids) for row in rows])
    if rows[0].sequences is not None:
        table = table.append_column("seq_lengths", _lists([row.sequences for row in rows]))
    if rows[0].desirable is not None:
        table = table.append_column("desirable", _lists([[int(bool(row.desirable))] for row in rows]))
    return table


def _lists(values: list[Any]) -> Any:
    return pa.array(values, type=pa.list_(pa.int32()))


def table_of_flat(flat: Flat, lengths: Iterable[int]) -> Any:
    """Rows of these lengths that stand end to end, as a table."""
    offsets = np.cumsum([0, *lengths], dtype=np.int32)
    columns = [pa.ListArray.from_arrays(offsets, pa.array(values)) for values in flat]
    return pa.table(columns, names=["input_ids", "labels"])


def flat_of(table: Any) -> Flat:
    """The rows of a table end to end."""
    return np.stack([pc.list_flatten(table[name]).to_numpy() for name in ("input_ids", "labels")])


def learnable(table: Any) -> NDArray[np.bool_]:
    """Which rows have a token that a model can learn; documents that share a row are apart where their lengths are
    known."""
    rows = pc.list_value_length(table["input_ids"]).to_numpy()
    apart = "seq_lengths" in table.column_names
    documents = pc.list_flatten(table["seq_lengths"]).to_numpy() if apart else rows
    labels = pc.list_flatten(table["labels"]).to_numpy()
    return learnable_rows(labels, rows, documents)


class TokenCounter:
    """Tables as they pass, and how many tokens passed."""

    def __init__(self, tables: Iterable[Any]) -> None:
        self._tables = tables
        self.tokens = 0

    def __iter__(self) -> Iterator[Any]:
        for table in self._tables:
            self.tokens += flat_of(table).shape[1]
            yield table


class IdleFilter:
    """Tables as they pass, without rows that have nothing to learn, and how much that was."""

    def __init__(self, tables: Iterable[Any]) -> None:
        self._tables = tables
        self.blocks = 0
        self.tokens = 0

    def __iter__(self) -> Iterator[Any]:
        for table in self._tables:
            kept = table.filter(pa.array(learnable(table)))
            self.blocks += len(table) - len(kept)
            self.tokens += flat_of(table).shape[1] - flat_of(kept).shape[1]
            if len(kept):
                yield kept


def write_rows(folder: Path, tables: Iterable[Any]) -> SplitCounts:
    """Write rows, and count them; records are counted as rows. Empty tables leave no trace."""
    counts = SplitCounts(records=0, rows=0, tokens=0, loss_tokens=0)
    writer = None
    with pa.OSFile(str(folder / _ROWS_NAME), "wb") as sink:
        for table in tables:
            writer = writer or pa.ipc.new_stream(sink, table.schema)
            writer.write_table(table)
            counts = _counted(counts, table)
        if writer is not None:
            writer.close()
    return counts


def write_counts(folder: Path, counts: SplitCounts) -> None:
    """Put the numbers beside the rows."""
    (folder / _COUNTS_NAME).write_text(counts.model_dump_json(by_alias=True))


def write_skipped(folder: Path, reasons: Iterable[str]) -> None:
    """Put beside the rows which records are not among them, and why: a line each."""
    (folder / _SKIPPED_NAME).write_text("".join(f"{reason}\n" for reason in reasons))


def read_skipped(rows: MappedRows) -> list[str]:
    """Which records are not among tokenized rows, and why."""
    return rows.path.with_name(_SKIPPED_NAME).read_text().splitlines()


def read_rows(folder: Path) -> tuple[MappedRows, SplitCounts]:
    """The rows, memory-mapped, and their numbers."""
    counts = SplitCounts.model_validate_json((folder / _COUNTS_NAME).read_bytes())
    return MappedRows(folder / _ROWS_NAME), counts


def _counted(counts: SplitCounts, table: Any) -> SplitCounts:
    flat = flat_of(table)
    return SplitCounts(
        records=counts.records + len(table),
        rows=counts.rows + len(table),
        tokens=counts.tokens + flat.shape[1],
        loss_tokens=counts.loss_tokens + int(np.count_nonzero(flat[1] != IGNORE_INDEX)),
    )
