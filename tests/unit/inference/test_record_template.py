"""`data.template`: what becomes of nulls and of values that a template was not made for."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotune_trainer.data import time_limit
from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError
from zerotune_trainer.inference.template import RecordTemplate


def rendered(template: str, **columns: Any) -> str:
    record = Record(columns, "a.jsonl", 7)
    return RecordTemplate(template, [Record(columns | {"host": "a"}, "a.jsonl", 1)]).render(record)


@pytest.mark.parametrize(
    "expression",
    [
        "host",
        "'Host ' ~ host",
        "host | upper",
        "host | string",
        "host | replace('a', 'b')",
        "host | trim",
        "'%s' | format(host)",
        "'{}'.format(host)",
        "hosts | join(', ')",
        "hosts",
        "asset",
        "asset.owner",
        "[host]",
        "none",
    ],
)
def test_a_null_never_becomes_a_word_of_python_by_whatever_way(expression: str) -> None:
    columns = {"host": None, "hosts": ["a", None], "asset": {"owner": None}}
    with pytest.raises(
        DataError, match=r"^a\.jsonl:7: data\.template: it writes a value that is null; say what to write"
    ):
        rendered("Host {{ " + expression + " }} said", **columns)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("host or '-'", "-"),
        ("host | default('-', true)", "-"),
        ("'-' if host is none else host", "-"),
        ("'-' if host == none else host", "-"),
        ("host is not none", "False"),
        ("hosts | reject('none') | join(',')", "a"),
        ("asset | tojson", '{"id": 3, "owner": null}'),
        ("hosts | length", "2"),
    ],
)
def test_a_template_may_ask_for_a_null_and_write_something_else(expression: str, text: str) -> None:
    columns = {"host": None, "hosts": ["a", None], "asset": {"owner": None, "id": 3}}
    assert rendered("{{ " + expression + " }}", **columns) == text


JSON = st.recursive(
    st.booleans() | st.integers() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)
)


@pytest.mark.slow
@given(JSON)
def test_values_without_a_null_are_rendered_as_jinja_renders_them(value: Any) -> None:
    assert rendered("{{ value }}|{{ value | string }}", value=value) == f"{value}|{value}"


@pytest.mark.parametrize(
    "template",
    ["{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "{{ 1 // 0 }}", "{{ text.split('') }}", "{{ range(10 ** 9) }}"],
)
def test_whatever_a_template_raises_is_an_error_of_the_record(template: str) -> None:
    with pytest.raises(DataError, match=r"^a\.jsonl:7: data\.template: "):
        rendered(template, text="x")


def test_a_variable_that_no_record_has_is_missing() -> None:
    with pytest.raises(InputMissingError, match="'hst' is undefined"):
        rendered("{{ hst }}", host="a")


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def test_a_template_without_an_end_is_rejected_before_the_work_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "SECONDS", 0.2)
    with pytest.raises(ConfigurationError, match=r"a.jsonl:1: data.template: it has not come to its end after 0.2 s"):
        rendered(ENDLESS)


def test_a_record_for_which_the_template_has_no_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    template = RecordTemplate(f"{{% if deep %}}{ENDLESS}{{% endif %}}.", [Record({"deep": False}, "a.jsonl", 1)])
    monkeypatch.setattr(time_limit, "SECONDS", 0.2)
    with pytest.raises(DataError, match=r"a.jsonl:8: data.template: it has not come to its end after 0.2 s"):
        template.render(Record({"deep": True}, "a.jsonl", 8))
    assert template.render(Record({"deep": False}, "a.jsonl", 9)) == "."
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0), "the limit ends with the record"
