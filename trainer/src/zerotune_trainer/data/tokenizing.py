"""Files of records tokenized into rows on disk, one row a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from zerotune_trainer.config.data import Data
from zerotune_trainer.data.arrow import table_of, write_counts, write_rows, write_skipped
from zerotune_trainer.data.files import DataFile
from zerotune_trainer.data.parallel import Tokenize, tokenize_in_parallel
from zerotune_trainer.data.processing import Process
from zerotune_trainer.data.readers import Record
from zerotune_trainer.data.records import AnsweredRecords, brief
from zerotune_trainer.data.tokens import Rows
from zerotune_trainer.errors import DataError

MakeTokenizer = Callable[[Record, Process], Tokenize]
"""What tokenizes records like this one, once a function of the user's has been applied."""


def tokenize_files(
    files: list[DataFile],
    folder: Path,
    data: Data,
    process: Process,
    make_tokenizer: MakeTokenizer,
    *,
    processes: int,
    most: int | None = None,
) -> None:
    """Write the rows of all records, in their order, their numbers, and which were skipped.

    Args:
        files: What to read.
        folder: Receives rows and numbers.
        data: How.
        process: What every record goes through first.
        make_tokenizer: Makes the tokenizer of the records, by the first of them.
        processes: How many tokenize.
        most: How many records are read. None: all.

    Raises:
        DataError: a file or a record is bad, or no record fits.
        InputMissingError, ConfigurationError, OutOfMemoryError, TemporaryError: as `prepare` says.
    """
    answered = AnsweredRecords(files)
    records = islice(answered, most)
    first = next(records)
    tokenize = make_tokenizer(process(first), process)
    total = Rows()
    chunks = tokenize_in_parallel(tokenize, chain([first], records), processes)
    counts = write_rows(folder, _tables(chunks, total))
    if not counts.rows:
        raise _nothing_left(total, brief([file.name for file in files]), data)
    write_skipped(folder, total.reasons)
    write_counts(
        folder,
        counts.model_copy(
            update={
                "records": total.records + answered.failed,
                "failed_records": answered.failed,
                "skipped_records": total.skipped,
                "truncated_records": total.truncated,
                "dropped_tokens": total.dropped_tokens,
            }
        ),
    )


def _tables(chunks: Iterable[Rows], total: Rows) -> Iterator[Any]:
    for chunk in chunks:
        total.records += chunk.records
        total.skipped += chunk.skipped
        total.truncated += chunk.truncated
        total.dropped_tokens += chunk.dropped_tokens
        total.reasons += chunk.reasons
        if chunk.rows:
            yield table_of(chunk.rows)


def _nothing_left(total: Rows, names: str, data: Data) -> DataError:
    """Why no record is left: all are too long, or what counts in the loss is cut off from all of them."""
    if data.overflow == "truncate":
        side = "left" if data.truncation_side == "right" else "right"
        return DataError(
            f"no record of {names}, of {total.records:,} in all, keeps a token that counts in the loss and follows "
            f"another when cut to data.maxLength {data.max_length}",
            f"raise data.maxLength, or cut the other end with data.truncationSide: {side}",
        )
    return DataError(
        f"no record of {names}, of {total.records:,} in all, fits into data.maxLength {data.max_length}",
        "raise data.maxLength, or cut the records with data.overflow: truncate",
    )
