"""Rows of output: what came in stays as it was."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotune_trainer.config.generation import InferenceOutputFormat
from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.inference.rows import OutputRow, as_jsonl, decode_schema, encode_schema, reject_clash

NAMES = InferenceOutputFormat()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text().filter(lambda key: key not in ("generation", "error")), JSON, max_size=5)


@pytest.mark.slow
@given(columns=OBJECTS, text=st.text(), ascii_only=st.booleans())
def test_a_line_keeps_its_bytes_and_gains_the_text(columns: dict[str, Any], text: str, ascii_only: bool) -> None:
    raw = json.dumps(columns, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    written = as_jsonl([OutputRow(columns, raw, generation=text)], NAMES)
    assert written.startswith(raw[:-1])
    assert written.count(b"\n") == 1
    assert json.loads(written) == columns | {"generation": text}
    assert list(json.loads(written)) == [*columns, "generation"]


def test_an_error_takes_the_place_of_the_text() -> None:
    rows = [
        OutputRow({"id": 1}, b'{"id": 1}', error="f:1: too long"),
        OutputRow({}, None, error="f:2: not JSON"),
        OutputRow({}, b"{ }", generation=["a", "b"]),
    ]
    assert as_jsonl(rows, NAMES).decode().splitlines() == [
        '{"id": 1, "error": "f:1: too long"}',
        '{"error": "f:2: not JSON"}',
        '{"generation": ["a", "b"]}',
    ]


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    columns = {"seen": math.nan, "rates": [math.inf, 0.1], "name": "ü", "day": datetime.date(2024, 2, 29)}
    [line] = as_jsonl([OutputRow(columns, generation="x")], NAMES).decode().splitlines()
    assert line == '{"seen": null, "rates": [null, 0.1], "name": "ü", "day": "2024-02-29", "generation": "x"}'


def test_values_that_json_has_no_type_for() -> None:
    columns = {
        "day": datetime.date(2024, 2, 29),
        "at": datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=datetime.UTC),
        "price": decimal.Decimal("1.10"),
        "blob": b"\x00\xff",
    }
    assert json.loads(as_jsonl([OutputRow(columns, generation="x")], NAMES)) == {
        "day": "2024-02-29",
        "at": "2024-02-29T01:02:03+00:00",
        "price": "1.10",
        "blob": "AP8=",
        "generation": "x",
    }


@pytest.mark.parametrize(("column", "field"), [("generation", "generationColumn"), ("error", "errorColumn")])
def test_a_column_that_the_output_would_lose_is_rejected(column: str, field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"in.jsonl:3: the record has a column '{column}'") as caught:
        reject_clash(Record({column: "x"}, "in.jsonl", 3), NAMES)
    assert field in caught.value.hint
    reject_clash(Record({"text": "x"}, "in.jsonl", 3), NAMES)


def test_a_schema_survives_as_text() -> None:
    schema = pa.schema({"a": pa.int8(), "b": pa.list_(pa.timestamp("us", tz="UTC"))})
    assert decode_schema(encode_schema(schema)).equals(schema)
