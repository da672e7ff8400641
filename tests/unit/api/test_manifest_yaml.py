"""YAML is read as kubectl reads it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.api.admission_cases import SCALARS
from zerotune_operator.api.manifest_yaml import MOST_LEVELS, MOST_NODES, Document, read_documents


def _read(text: str) -> Document:
    (document,) = read_documents(text)
    return document


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_scalars(text: str, value: Any) -> None:
    document = _read(f"a: {text}\n")
    assert document.problems == []
    assert document.value == {"a": value}
    assert type(document.value["a"]) is type(value)


def test_lines_of_fields_and_items() -> None:
    document = _read("a:\n  b: 1\n  c:\n    - x\n    - y: 2\n")
    assert document.lines == {
        (): 1,
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 3,
        ("a", "c", 0): 4,
        ("a", "c", 1): 5,
        ("a", "c", 1, "y"): 5,
    }


def test_lines_count_through_documents() -> None:
    assert [document.lines[("a",)] for document in read_documents("a: 1\n---\n\na: 2\n")] == [1, 4]


def test_merge_keys_and_aliases() -> None:
    text = "base: &base {x: 1, y: 2}\nmore:\n  <<: *base\n  y: 3\nsame: *base\n"
    assert _read(text).value == {"base": {"x": 1, "y": 2}, "more": {"x": 1, "y": 3}, "same": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "a is given twice, first in line 1: keep one of them", 3),
        ("s:\n  a: 1\n  a: 1\n", "s.a is given twice, first in line 2: keep one of them", 3),
        ("a: .inf\n", "a is .inf, and neither NaN nor infinity is a number here: write a finite one", 1),
        ("a: [.NaN]\n", "a[0] is .NaN, and neither NaN nor infinity is a number here", 1),
        ("a: 1e999\n", "a is 1e999, and neither NaN nor infinity is a number here", 1),
        ("x: 1\na: !!python/name:os.system x\n", "which JSON does not have", 2),
        ("a:\n\t- b\n", "this is not YAML", 2),
        ("a: [1, 2\nb: 3\n", "this is not YAML", 2),
        ("x: 1\na: \x01\n", "this is not YAML: character #x0001 is not allowed", 2),
        (f"a: 1{'0' * 400}\n", "a is 10000000000000000000..., a number of 401 characters: write a shorter one", 1),
        ("? [1, 2]\n: x\n", "has a key that is not text", 1),
    ],
)
def test_what_is_rejected(text: str, message: str, line: int) -> None:
    document = _read(text)
    assert message in str(document.problems[0])
    assert document.problems[0].line == line


def test_a_bomb_is_rejected() -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert f"has more than {MOST_NODES:,} values" in _read("\n".join(lines)).problems[0].message


@pytest.mark.slow
def test_a_document_of_too_many_values_is_not_read_to_its_end() -> None:
    begun = time.process_time()
    document = _read("a: [" + "1," * 1_500_000 + "1]")
    assert f"has more than {MOST_NODES:,} values, those that aliases stand for included" in str(document.problems[0])
    assert time.process_time() - begun < 45, "all of it takes several times as long"


def test_a_value_that_holds_itself_is_rejected() -> None:
    assert "aliases followed" in _read("a: &a [*a]\n").problems[0].message


@pytest.mark.slow
@pytest.mark.parametrize("levels", [120, 1500])
def test_what_is_nested_too_deep_is_reported(levels: int) -> None:
    text = "a: " + "[" * levels + "]" * levels
    assert f"is nested more than {MOST_LEVELS} levels deep" in _read(text).problems[0].message


def test_a_tab_is_reported_with_its_remedy() -> None:
    assert _read("a:\n\tb: 1\n").problems[0].message.endswith("YAML is indented with spaces, replace the tab")


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text("abcyn01_", min_size=1), values, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@given(st.dictionaries(st.text("abc", min_size=1), JSON_VALUES, min_size=1))
def test_json_is_read_as_it_was_written(value: dict[str, Any]) -> None:
    document = _read(json.dumps(value, ensure_ascii=False))
    assert document.problems == []
    assert document.value == value


@given(st.dictionaries(st.text("abc", min_size=1), st.integers() | st.booleans() | st.none() | st.floats(1e-9, 1e9)))
def test_what_pyyaml_writes_is_read(value: dict[str, Any]) -> None:
    assert [document.value for document in read_documents(yaml.safe_dump(value))] == [value]


@given(st.floats(1e-300, 1e300), st.sampled_from(["{:e}", "{:E}", "{:.17e}", "{!r}"]))
def test_every_way_of_writing_a_number_is_a_number(number: float, form: str) -> None:
    text = form.format(number)
    assert _read(f"a: {text}").value["a"] == float(text)
