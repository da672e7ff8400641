"""Rows of output: the input's columns as they were, the generation beside them, an `error` where there is none."""

from __future__ import annotations

import base64
import datetime
import decimal
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zerotune_trainer.config.generation import InferenceOutputFormat
from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.reporting.page import cut
from zerotune_trainer.reporting.record_outcomes import ShownRecord

Cell = str | list[str] | list[float] | dict[str, Any]
"""What the output has of a record."""


@dataclass(frozen=True)
class OutputRow:
    """A record of the output."""

    columns: dict[str, Any]
    raw: bytes | None = None
    """The line of jsonl that the columns come from."""
    generation: Cell | None = None
    """One text, a list where several were asked for, an object with scores, a vector; None where `error` says why."""
    error: str | None = None


def clash(record: Record, names: InferenceOutputFormat) -> ConfigurationError | None:
    """Why the output cannot have all columns of a record: one has the name of a column of its own. None: it can."""
    fields = {names.generation_column: "generationColumn", names.error_column: "errorColumn"}
    for name in fields.keys() & record.values.keys():
        return ConfigurationError(
            f"{record.location}: the record has a column {name!r}, which the output would lose",
            f"choose another name with outputFormat.{fields[name]}",
        )
    return None


def reject_clash(record: Record, names: InferenceOutputFormat) -> None:
    """See that the output's own columns do not take the place of a column of the input.

    Raises:
        ConfigurationError: the record has a column of that name.
    """
    if (error := clash(record, names)) is not None:
        raise error


def as_jsonl(rows: Sequence[OutputRow], names: InferenceOutputFormat) -> bytes:
    """One object a line. Keys keep their order; a row that failed has an `error` and no generation."""
    return b"".join(_line(row, names) for row in rows)


def _line(row: OutputRow, names: InferenceOutputFormat) -> bytes:
    result = {names.generation_column: row.generation} if row.error is None else {names.error_column: row.error}
    if row.raw is None:
        return _json(row.columns | result) + b"\n"
    # The columns stay as they were written, number by number; parsed and written again 1e3 would become 1000.0.
    opened = row.raw[:-1].rstrip()
    return opened + (b", " if row.columns else b"") + _json(result)[1:] + b"\n"


def _json(value: Any) -> bytes:
    """JSON, which has no NaN and no infinity: null is in their place, such as for a missing number of pandas."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(value, default=_plain), parse_constant=lambda _: None)
        text = json.dumps(finite, ensure_ascii=False)
    return text.encode(errors="backslashreplace")


def _plain(value: Any) -> str:
    """What JSON has no type for: dates as ISO 8601, decimals in digits, bytes in base64."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    raise TypeError(f"{value!r} has no form in JSON")


def as_parquet(
    rows: Sequence[OutputRow], names: InferenceOutputFormat, columns: pa.Schema, cells: pa.DataType
) -> bytes:
    """A parquet file: the input's columns in their types, the generation (of the type `cells`), and the error, null
    where all went well."""
    own = (names.generation_column, names.error_column)
    kept = pa.schema([column for column in columns if column.name not in own])
    table = pa.Table.from_pylist([row.columns for row in rows], schema=kept)
    table = table.append_column(names.generation_column, pa.array([row.generation for row in rows], cells))
    table = table.append_column(names.error_column, pa.array([row.error for row in rows], pa.string()))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def shown(row: OutputRow) -> ShownRecord:
    """A row as the report shows it."""
    result = row.generation if isinstance(row.generation, str) else _json(row.generation).decode()
    record = _json(row.columns).decode()
    return ShownRecord(record=cut(record), result=cut(row.error or result), is_error=row.error is not None)


Generations = list[Cell | None]
"""What a file has in its column of texts, row after row; None where there is none."""


def read_jsonl(content: bytes, column: str) -> Generations:
    """The texts of what `as_jsonl` wrote."""
    return [json.loads(line).get(column) for line in content.splitlines()]


def read_parquet(content: bytes, column: str) -> Generations:
    """The texts of what `as_parquet` wrote."""
    texts: Generations = pq.read_table(pa.BufferReader(content), columns=[column])[column].to_pylist()
    return texts


def encode_schema(schema: pa.Schema) -> str:
    """A schema as text, for `plan.json`."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def decode_schema(text: str) -> pa.Schema:
    """What `encode_schema` was given."""
    return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(text)))
