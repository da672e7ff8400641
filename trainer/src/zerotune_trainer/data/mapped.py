"""Rows in a memory-mapped Arrow file, by number.

`datasets.Dataset` can do that and more. Importing it, and pandas with it, takes a second of every start: ranks that
find their rows prepared do without.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_BATCH = 1024
"""Rows that are read at once when all of them are read."""


class MappedRows:
    """The rows of an Arrow stream: numpy arrays by name, which are views of the file.

    Args:
        path: The file; it stays as it is as long as its rows are used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
        self._batches = self.table.to_batches()
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, index: int) -> dict[str, NDArray[np.int32]]:
        """A row.

        Raises:
            IndexError: there is none of this number.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        batch = self._batches[number]
        place = int(index - self._ends[number] + batch.num_rows)
        return {name: _view(batch.column(name)[place].values) for name in batch.schema.names}

    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each row; where documents or sequences share rows, of each of those."""
        if "seq_lengths" in self.table.column_names:
            return _view(pc.list_flatten(self.table["seq_lengths"]).combine_chunks())
        return self.sizes()

    def sizes(self) -> NDArray[np.int32]:
        """Tokens of each row."""
        return _view(pc.list_value_length(self.table["input_ids"]).combine_chunks())

    def longest(self) -> int:
        """Tokens of the longest row; where documents share rows, of the longest document."""
        if "seq_lengths" in self.table.column_names:
            return int(pc.max(pc.list_flatten(self.table["seq_lengths"])).as_py())
        return int(pc.max(pc.list_value_length(self.table["input_ids"])).as_py())

    def good_completions(self) -> int | None:
        """Rows whose completion was judged good; None where none was judged."""
        if "desirable" not in self.table.column_names:
            return None
        return int(pc.sum(pc.list_flatten(self.table["desirable"])).as_py())

    def largest_id(self) -> int:
        """The largest token id of all rows."""
        return max(int(pc.max(pc.list_flatten(chunk)).as_py()) for chunk in self.table["input_ids"].chunks)

    def __reduce__(self) -> tuple[type[MappedRows], tuple[Path]]:
        # For processes that load data: the file is mapped anew, not sent.
        return type(self), (self.path,)

    def tables(self, chosen: NDArray[np.bool_] | None = None) -> Iterator[Any]:
        """The rows in tables of some, in order; those that are chosen."""
        for start in range(0, len(self), _BATCH):
            part = self.table.slice(start, _BATCH)
            yield part if chosen is None else part.filter(pa.array(chosen[start : start + _BATCH]))


def _view(ids: Any) -> NDArray[np.int32]:
    """An Arrow array as it lies in memory. `to_numpy` gives the same view, and imports pandas first."""
    view: NDArray[Any] = np.from_dlpack(ids)
    return view
