"""`data.template`: a Jinja template that makes a prompt of a record's columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import StrictUndefined, TemplateError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from zerotune_trainer.data.columns import did_you_mean
from zerotune_trainer.data.readers import Record
from zerotune_trainer.data.time_limit import TakesTooLongError, time_limit
from zerotune_trainer.errors import ConfigurationError, DataError, InputMissingError, ZerotuneError
from zerotune_trainer.input_errors import input_errors


class RecordTemplate:
    """A template over the columns of records. A column that is not there, or a null that would become text, is an error
    of the record.
    """

    def __init__(self, text: str, sample: Sequence[Record]) -> None:
        """Compile it, and try it on the first records.

        Raises:
            ConfigurationError: it cannot be read, or does not come to its end for one of the records.
            InputMissingError: none of the records has a variable of it.
        """
        try:
            self._template = _environment().from_string(text)
        except TemplateError as error:
            raise ConfigurationError(f"data.template: {error}", "write a Jinja template: {{ question }}") from error
        undefined = [missing for record in sample if (missing := self._undefined_variable(record))]
        if undefined and len(undefined) == len(sample):
            columns = list(dict.fromkeys(name for record in sample for name in record.values))
            raise InputMissingError(f"data.template: {undefined[0]}", did_you_mean("", columns))

    def render(self, record: Record) -> str:
        """The prompt of a record.

        Raises:
            DataError: the template does not cope with it.
        """
        hint = "make the template cope with this record"
        with input_errors(DataError, f"{record.location}: data.template", hint), time_limit():
            return self._template.render(_with_nulls(record.values))

    def _undefined_variable(self, record: Record) -> str:
        try:
            self.render(record)
        except ZerotuneError as error:
            if isinstance(error.__cause__, TakesTooLongError):  # To try it on all of the first would take minutes.
                raise ConfigurationError(error.message, "write data.template without loops in loops") from error
            return str(error.__cause__) if isinstance(error.__cause__, UndefinedError) else ""
        return ""


class _NullError(ValueError):
    """A template writes a null."""

    def __init__(self) -> None:
        super().__init__("it writes a value that is null; say what to write in its place: {{ column or '' }}")


class _Null:
    """A null of a record: it is false and equals none, and never becomes text, as Python's None would in a filter."""

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, _Null)

    def __hash__(self) -> int:
        return hash(None)

    def __str__(self) -> str:
        raise _NullError

    __repr__ = __str__


_NULL = _Null()


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, finalize=_reject_null
    )
    environment.tests["none"] = lambda value: value == None  # noqa: E711 what equals it is one
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "default": _as_json}
    return environment


def _reject_null(value: Any) -> Any:
    """See that a template writes no null: Python's word for it, None, is no part of a prompt."""
    if value is None or value is _NULL:
        raise _NullError
    return value


def _with_nulls(value: Any) -> Any:
    """A value of a record with `_NULL` for each null in it."""
    if isinstance(value, dict):
        return {name: _with_nulls(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_nulls(each) for each in value]
    return _NULL if value is None else value


def _as_json(value: Any) -> None:
    if value is not _NULL:
        raise TypeError(f"{type(value).__name__} has no form in JSON")
