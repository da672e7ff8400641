"""Packing discards nothing, whatever the rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerotune_trainer.data.arrow import flat_of, table_of
from zerotune_trainer.data.packing import pack
from zerotune_trainer.data.tokens import Row

pytestmark = pytest.mark.slow

Rows = list[list[int]]


@st.composite
def tables(draw: st.DrawFn) -> list[Rows]:
    """Rows in some tables; every token is another number, so that none can stand for another."""
    lengths = draw(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), max_size=5))
    numbers = iter(range(10_000))
    return [[[next(numbers) for _ in range(length)] for length in table] for table in lengths]


def as_table(rows: Rows) -> pa.Table:
    """Labels that show from which id they came, with some masked."""
    arrays = [np.array(row, dtype=np.int32) for row in rows]
    return table_of([Row(ids, np.where(ids % 3 == 0, -100, ids).astype(np.int32)) for ids in arrays])


def packed(given_tables: list[Rows], packing: str, length: int) -> list[dict[str, list[int]]]:
    blocks = pack(map(as_table, given_tables), packing, length)  # type: ignore[arg-type]
    return [row for table in blocks for row in table.to_pylist()]


def check_labels(rows: list[dict[str, list[int]]]) -> None:
    for row in rows:
        assert row["labels"] == [-100 if token % 3 == 0 else token for token in row["input_ids"]]


@given(tables(), st.integers(1, 50))
@settings(deadline=None)
def test_wrapped_keeps_every_token_in_order_and_only_the_last_block_is_short(found: list[Rows], length: int) -> None:
    blocks = packed(found, "wrapped", length)
    tokens = [token for table in found for row in table for token in row]
    assert [token for block in blocks for token in block["input_ids"]] == tokens
    assert all(len(block["input_ids"]) == length for block in blocks[:-1])
    assert all(0 < len(block["input_ids"]) <= length for block in blocks[-1:])
    check_labels(blocks)


@given(tables(), st.integers(1, 50))
@settings(deadline=None)
def test_bfd_split_keeps_every_document_whole_or_in_full_pieces(found: list[Rows], length: int) -> None:
    blocks = packed(found, "bfd_split", length)
    pieces: list[tuple[int, ...]] = []
    for block in blocks:
        assert len(block["input_ids"]) == sum(block["seq_lengths"]) <= length
        ends = np.cumsum(block["seq_lengths"])
        pieces += [tuple(piece) for piece in np.split(block["input_ids"], ends[:-1])]
    documents = [row for table in found for row in table]
    wanted = [tuple(row[at : at + length]) for row in documents for at in range(0, len(row), length)]
    assert sorted(pieces) == sorted(wanted)
    check_labels(blocks)


@given(tables())
def test_none_leaves_rows_alone(found: list[Rows]) -> None:
    assert [row["input_ids"] for row in packed(found, "none", 8)] == [row for table in found for row in table]


@given(tables())
def test_flat_of_a_slice_is_the_slice(found: list[Rows]) -> None:
    for rows in found:
        for begin in range(len(rows)):
            ids = flat_of(as_table(rows).slice(begin))[0]
            assert ids.tolist() == [token for row in rows[begin:] for token in row]
