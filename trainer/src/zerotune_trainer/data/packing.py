"""Rows packed into blocks: every token stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from zerotune_trainer.config.data import Packing
from zerotune_trainer.data.arrow import Flat, flat_of, table_of_flat

_GROUP_TOKENS = 1 << 22
_GROUP_BLOCKS = 64
"""`bfd_split` packs this many tokens, and no fewer blocks, at a time: the few blocks that stay open do not matter."""


def pack(tables: Iterable[Any], packing: Packing, length: int) -> Iterator[Any]:
    """Rows in blocks of at most `length` tokens, the labels along with the ids.

    `wrapped`: end to end, cut every `length` tokens; the last block is what remains. `bfd_split`: best fit decreasing,
    a row longer than a block is split first; `seq_lengths` has the lengths of the pieces in each block.
    """
    match packing:
        case "none":
            yield from tables
        case "wrapped":
            yield from _wrapped(tables, length)
        case "bfd_split":
            yield from (
                _best_fit(group, length) for group in _groups(tables, max(_GROUP_TOKENS, length * _GROUP_BLOCKS))
            )


def _wrapped(tables: Iterable[Any], length: int) -> Iterator[Any]:
    # TRL's own `wrapped` leaves a short block at the end of every batch it is given.
    rest: Flat = np.empty((2, 0), dtype=np.int32)
    for table in tables:
        flat = np.concatenate([rest, flat_of(table)], axis=1)
        blocks = flat.shape[1] // length
        yield table_of_flat(flat[:, : blocks * length], [length] * blocks)
        rest = flat[:, blocks * length :]
    if rest.shape[1]:
        yield table_of_flat(rest, [rest.shape[1]])


def _best_fit(table: Any, length: int) -> Any:
    # Here, since most starts find their rows packed already and need neither.
    import datasets
    from trl import pack_dataset

    datasets.disable_progress_bars()
    rows = datasets.Dataset(datasets.table.InMemoryTable(table.combine_chunks()))
    options = {"batch_size": None, "keep_in_memory": True}
    return pack_dataset(rows, length, "bfd_split", map_kwargs=options).with_format("arrow")[:]


def _groups(tables: Iterable[Any], size: int) -> Iterator[Any]:
    group: list[Any] = []
    tokens = 0
    for table in tables:
        group.append(table)
        tokens += flat_of(table).shape[1]
        if tokens >= size:
            yield pa.concat_tables(group)
            group, tokens = [], 0
    if tokens:
        yield pa.concat_tables(group)
