"""Quantities as Kubernetes reads them."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from zerotune_operator.api.parallelism import Parallelism
from zerotune_operator.api.quantity import PATTERN, Quantity, parse_quantity
from zerotune_operator.api.topology import Topology
from zerotune_operator.plan.layout import RuntimeLayout
from zerotune_operator.plan.topology import plan_topology

QUANTITY = TypeAdapter[str](Quantity)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("0.5", Decimal("0.5")),
        (".5", Decimal("0.5")),
        ("5.", 5),
        ("500m", Decimal("0.5")),
        ("100n", Decimal("1e-7")),
        ("1k", 1000),
        ("1Ki", 1024),
        ("1.5Gi", 1536 * 2**20),
        ("80Gi", 80 * 2**30),
        ("12e9", 12 * 10**9),
        ("12E9", 12 * 10**9),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("1e-3", Decimal("0.001")),
    ],
)
def test_values(text: str, value: Decimal) -> None:
    assert parse_quantity(QUANTITY.validate_python(text)) == value


@pytest.mark.parametrize(
    "bad",
    [
        *("", "80GB", "-1", "1 Gi", "Gi", "1.2.3", "0x10", "1K", "1e", ".", "1e999999", "1e16", "8Ei", "9" * 19),
        *(True, 1.5, None),
    ],
)
def test_what_is_none(bad: object) -> None:
    with pytest.raises(ValidationError):
        QUANTITY.validate_python(bad, strict=True)


def test_a_whole_number_needs_no_quotes() -> None:
    assert QUANTITY.validate_python(4, strict=True) == "4"


@given(st.integers(0, 10**6), st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti"]))
def test_units_scale(number: int, unit: str) -> None:
    one, many = parse_quantity(f"1{unit}"), parse_quantity(f"{number}{unit}")
    assert many == one * number


@given(st.decimals(0, 10**6, places=3), st.sampled_from([("k", "000"), ("M", "000000")]))
def test_a_suffix_is_zeros(number: Decimal, unit: tuple[str, str]) -> None:
    suffix, zeros = unit
    assert parse_quantity(f"{number}{suffix}") == number * int(f"1{zeros}")


QUANTITIES = st.one_of(st.from_regex(PATTERN, fullmatch=True), st.text("0123456789.eE-KMGTPinumk", max_size=64))


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(cpu=QUANTITIES, memory=QUANTITIES)
def test_every_accepted_quantity_is_planned_in_time(cpu: str, memory: str) -> None:
    try:
        topology = Topology(cpu=cpu, memory=memory)
    except ValidationError:
        return
    layout = RuntimeLayout(("a",), str, "", "", "", "", "")
    started = time.process_time()
    planned = plan_topology(topology, Parallelism(), layout)
    cores = parse_quantity(cpu)

    assert time.process_time() - started < 0.01
    assert cores < 2**63
    assert planned.node_bytes is not None
    assert planned.node_bytes < 2**63
