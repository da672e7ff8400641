"""CEL rules as the API server evaluates them, evaluated here: one text, two readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from cel_expr_python import cel

from zerotune_trainer.config.base import Rule

_ENVIRONMENT = cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN})


def compile_rule(text: str) -> cel.Expression:
    """The expression of a rule about `self` and `oldSelf`.

    Raises:
        RuntimeError: it is not CEL, or applies an operator to types that it does not take.
    """
    return _ENVIRONMENT.compile(text)


_compiled = cache(compile_rule)


def broken_rules(rules: Iterable[Rule], value: dict[str, Any], old: dict[str, Any] | None = None) -> Iterator[Rule]:
    """The rules that `value`, an object with its defaults and without nulls, does not keep.

    A rule about a change (it names `oldSelf`) counts only where there is an `old` object.

    Raises:
        ValueError: a rule itself is wrong.
    """
    activation = _ENVIRONMENT.Activation({"self": value} | ({} if old is None else {"oldSelf": old}))
    for rule in rules:
        if "oldSelf" in rule.cel and old is None:
            continue
        found = _compiled(rule.cel).eval(activation)
        if found.type() != cel.Type.BOOL:
            raise ValueError(f"the rule {rule.cel} gives no truth value: {found.value()}")
        if not found.value():
            yield rule
