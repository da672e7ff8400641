"""Kubernetes resource quantities: `80Gi`, `500m`, `2`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, StringConstraints, WithJsonSchema

_DIGITS = {"[num]?": 18, "(k|Ki)": 15, "Mi?": 12, "Gi?": 9, "Ti?": 6, "Pi?": 3, "[eE]-?(0?[0-9]|1[0-5])": 3}
PATTERN = (
    "^("
    + "|".join(rf"([0-9]{{1,{most}}}(\.[0-9]{{0,9}})?|\.[0-9]{{1,9}}){unit}" for unit, most in _DIGITS.items())
    + r"|[0-7](\.[0-9]{0,9})?Ei?)$"
)
"""What Kubernetes reads as a quantity (apimachinery `resource.ParseQuantity`), less negative ones and those above 2^63,
its largest: so many digits before each unit.
"""
RULE = "must be a number below 2^63 with a unit of Kubernetes, as in 80Gi, 500m or 2"
"""The same as a sentence."""

_PARTS = re.compile(r"^(?P<number>[0-9.]+)(?P<suffix>.*)$")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def _text(value: Any) -> Any:
    """`cpu: 2` is a number in YAML; the API server takes it as the quantity `2`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# A schema's `pattern` would not match whole numbers, and would answer with the pattern alone.
_VALIDATION = {
    "rule": f"string(self).matches(r'{PATTERN}')",
    "message": "a quantity is a number with a unit of Kubernetes, as in 80Gi, 500m or 2: write it so",
}

Quantity = Annotated[
    str,
    StringConstraints(pattern=PATTERN, max_length=64),
    BeforeValidator(_text),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 64, "x-kubernetes-validations": [_VALIDATION]}),
]
"""A quantity as it was written; whole numbers may be given without quotes."""


def parse_quantity(text: str) -> Decimal:
    """The value of a quantity, exactly, in the unit it counts (bytes, cores): `1Ki` is 1024, `500m` is 0.5."""
    match = _PARTS.match(text)
    assert match, text
    number, suffix = Decimal(match["number"]), match["suffix"]
    if suffix in _BINARY:
        return number * Decimal(1024) ** _BINARY[suffix]
    if suffix in _DECIMAL:
        return number.scaleb(_DECIMAL[suffix])
    return number.scaleb(int(suffix[1:]))
