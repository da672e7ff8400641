"""Axes of a chart: where values lie between its edges, where ticks go, and how numbers read. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
LOGARITHMIC_RATIO = 50.0
"""A scale is logarithmic where the largest value is more than this many times the smallest."""

_SMALLEST = 1e-300
"""What is closer to zero is drawn as zero: a float has no room left for what lies between its ticks."""


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high`, mapped to 0 to 1."""

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where `value` lies: 0 at `low`, 1 at `high`."""
        transform: Callable[[float], float] = math.log10 if self.logarithmic else float
        low, high = transform(self.low), transform(self.high)
        return (transform(value) - low) / (high - low)


def value_scale(values: list[float]) -> Scale:
    """A scale that holds all `values`, ending on round numbers; logarithmic where they span a wide positive range."""
    low, high = (0.0 if abs(value) < _SMALLEST else value for value in (min(values), max(values)))
    wide = low > 0 and high / low > LOGARITHMIC_RATIO
    return _logarithmic(low, high) if wide else _linear(low, high)


def step_scale(first: int, last: int) -> Scale:
    """A scale of optimizer steps with ticks on whole steps, ending on the steps themselves."""
    if first == last:
        return Scale(first - 1, last + 1, (float(first),))
    interval = max(1.0, nice_interval(last - first, 6))
    start = math.ceil(first / interval)
    return Scale(first, last, tuple(index * interval for index in range(start, math.floor(last / interval) + 1)))


def nice_interval(span: float, count: int) -> float:
    """The smallest of 1, 2, 5 x 10^n that divides `span` into at most `count` parts."""
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw * (1 - 1e-9))


def _linear(low: float, high: float) -> Scale:
    if math.isclose(low, high, rel_tol=1e-9):
        margin = abs(low) * 0.1 or 1.0
        low, high = max(low - margin, 0.0) if low >= 0 else low - margin, high + margin
    interval = nice_interval(high - low, 4)
    first, last = math.floor(low / interval + 1e-9), math.ceil(high / interval - 1e-9)
    ticks = tuple(index * interval for index in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks)


def _logarithmic(low: float, high: float) -> Scale:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    bounds = [factor * 10.0**power for power in range(first, last + 1) for factor in (1.0, 2.0, 5.0)]
    below = max(bound for bound in bounds if bound <= low)
    above = min(bound for bound in bounds if bound >= high)
    ticks = [10.0**power for power in range(first, last + 1)] if last - first > 3 else bounds
    shown = [tick for tick in ticks if below <= tick <= above]
    return Scale(below, above, tuple(shown[:: math.ceil(len(shown) / 10)]), logarithmic=True)


def number(value: float) -> str:
    """A number as people read it: `12.3k`, `3.142`, `2e-5`."""
    if value == 0:
        return "0"
    magnitude = abs(value)
    for size, suffix in _SUFFIXES:
        if magnitude >= size:
            return f"{_trim(f'{value / size:.2f}')}{suffix}"
    if magnitude < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{_trim(mantissa)}e{int(exponent)}"
    return _trim(f"{value:.4g}")


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
