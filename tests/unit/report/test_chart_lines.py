from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zerotune_trainer.reporting.charts import HEIGHT, WIDTH, Chart, Series, draw, smooth, thin
from zerotune_trainer.reporting.scales import number, step_scale, value_scale

finite = st.floats(min_value=-1e30, max_value=1e30, allow_subnormal=False)
points = st.lists(finite, min_size=1, max_size=3000).map(lambda values: list(enumerate(values)))


@given(points, st.integers(1, 200))
def test_thinning_keeps_order_ends_and_extremes(line: list[tuple[int, float]], buckets: int) -> None:
    kept = thin(line, buckets)
    values = [value for _, value in line]
    assert len(kept) <= max(2 * buckets + 2, 2)
    assert set(kept) <= set(line) and kept == sorted(kept, key=lambda point: point[0])
    assert (kept[0], kept[-1]) == (line[0], line[-1])
    assert {min(values), max(values)} <= {value for _, value in kept}


@given(st.lists(finite, min_size=1, max_size=50))
def test_every_value_lies_on_its_scale(values: list[float]) -> None:
    scale = value_scale(values)
    assert all(-1e-9 <= scale.place(value) <= 1 + 1e-9 for value in values)
    assert 2 <= len(scale.ticks) <= 12 and all(math.isfinite(tick) for tick in scale.ticks)


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_step_ticks_are_whole_steps(first: int, length: int) -> None:
    scale = step_scale(first, first + length)
    assert 1 <= len(scale.ticks) <= 8
    assert all(tick == int(tick) and scale.low <= tick <= scale.high for tick in scale.ticks)


@given(st.lists(st.one_of(st.none(), st.floats()), min_size=1, max_size=300))
@example([0.0, 5e-324])
@example([1.0, 5e-324])
def test_any_values_make_a_whole_svg_inside_its_frame(values: list[float | None]) -> None:
    line = [(step, value if value is None or abs(value) < 1e30 else math.nan) for step, value in enumerate(values)]
    drawn = draw(Chart("c", "T", "unit <&>", [Series("s", "first", line, marked=True)]))
    if drawn is None:
        assert not [value for _, value in line if value is not None and math.isfinite(value)]
        return
    root = ElementTree.fromstring(str(drawn))
    for mark in root.iter("circle"):
        assert 0 <= float(mark.attrib["cx"]) <= WIDTH and 0 <= float(mark.attrib["cy"]) <= HEIGHT


def test_smoothing_leaves_gaps_and_starts_at_the_first_value() -> None:
    assert smooth([(1, None), (2, 4.0), (3, math.nan), (4, 2.0)], window=3) == [
        (1, None),
        (2, 4.0),
        (3, None),
        (4, 3.0),
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (2e-5, "2e-5"),
        (1.5e-4, "1.5e-4"),
        (0.002, "0.002"),
        (3.14159, "3.142"),
        (999.9, "999.9"),
        (1000, "1k"),
        (12_345, "12.35k"),
        (2_500_000, "2.5M"),
        (-4_000, "-4k"),
    ],
)
def test_numbers_read_well(value: float, text: str) -> None:
    assert number(value) == text
