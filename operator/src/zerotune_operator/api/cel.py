"""CEL rules as the API server evaluates them, evaluated here: one text, two readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Protocol

import celpy
from celpy.celtypes import BoolType
from celpy.evaluation import bool_eq

from zerotune_trainer.config.base import Rule


class _Program(Protocol):
    def evaluate(self, context: dict[str, Any]) -> Any:
        """The expression's value."""


_ENVIRONMENT = celpy.Environment()


def _equal(left: Any, right: Any) -> Any:
    """CEL's `==`: values of two types are unequal. celpy calls that an error, also deep inside an object."""
    try:
        return bool_eq(left, right)
    except TypeError:
        return BoolType(False)


@cache
def _program(cel: str) -> _Program:
    program: _Program = _ENVIRONMENT.program(_ENVIRONMENT.compile(cel), {"_==_": _equal})
    return program


def broken_rules(rules: Iterable[Rule], value: dict[str, Any], old: dict[str, Any] | None = None) -> Iterator[Rule]:
    """The rules that `value`, an object with its defaults and without nulls, does not keep.

    A rule about a change (it names `oldSelf`) counts only where there is an `old` object.

    Raises:
        celpy.CELEvalError: a rule itself is wrong.
    """
    context = {"self": celpy.json_to_cel(value)} | ({} if old is None else {"oldSelf": celpy.json_to_cel(old)})
    for rule in rules:
        if ("oldSelf" not in rule.cel or old is not None) and not _program(rule.cel).evaluate(context):
            yield rule
