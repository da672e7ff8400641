"""Line charts as inline SVG, drawn in Python. Colours come from the page's style sheet, by class name.

No plotting library draws these, as the page would lose by it (tried with a line of 2,000 steps). matplotlib's SVG says
colours and fonts in 41 `style` attributes, which a Content-Security-Policy without 'unsafe-inline' drops and a dark
page cannot change; it has neither description nor tooltips, is 39 kB where this is 16, and brings 93 MB of packages
into the trainer's image. pygal's tooltips are a script that is loaded from the network; those of Altair and Plotly are
scripts of megabytes. What is drawn here reads without script, without network and without being seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from zerotune_trainer.reporting.scales import Scale, number, step_scale, value_scale

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 34, 44
BUCKETS = 400
"""A longer series is drawn as the smallest and the largest value of this many stretches of steps."""
STRIPS = 48
"""Stretches of the x axis whose values a tooltip shows."""

Point = tuple[int, float]
"""A step and its value."""


@dataclass(frozen=True)
class Series:
    """A named line. A value that is None or not finite is a gap in it. `style` is its class in the style sheet."""

    name: str
    style: str
    points: Sequence[tuple[int, float | None]]
    marked: bool = False
    """Draw a mark at every point: for few points far apart."""

    def runs(self) -> list[list[Point]]:
        """The stretches between gaps."""
        stretches: list[list[Point]] = [[]]
        for step, value in self.points:
            if value is not None and math.isfinite(value):
                stretches[-1].append((step, value))
            elif stretches[-1]:
                stretches.append([])
        return [stretch for stretch in stretches if stretch]


@dataclass(frozen=True)
class Chart:
    """A chart to draw. `unit` stands at the y axis."""

    name: str
    title: str
    unit: str
    series: Sequence[Series]
    from_zero: bool = False
    """Begin the y axis at 0, for quantities whose height is what matters."""
    axis: str = "optimizer step"
    """What the x axis counts."""

    @property
    def place(self) -> str:
        """What a number of the x axis is called."""
        return self.axis.rpartition(" ")[2]


def draw(chart: Chart) -> Markup | None:
    """The chart as an `<svg>`; None where no series has a value."""
    lines = [(series, runs) for series in chart.series if (runs := series.runs())]
    points = [point for _, runs in lines for run in runs for point in run]
    if not points:
        return None
    steps = step_scale(min(step for step, _ in points), max(step for step, _ in points))
    frame = _Frame(steps, value_scale([value for _, value in points] + [0.0] * chart.from_zero))
    parts = [
        _describe(chart, lines),
        *frame.grid(chart),
        *(frame.line(series, runs) for series, runs in lines),
        *_legend([series for series, _ in lines]),
        *frame.strips(chart.place, [(series.name, [point for run in runs for point in run]) for series, runs in lines]),
    ]
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-desc">')
    return head.format(WIDTH, HEIGHT, chart.name, chart.name) + Markup("\n").join(parts) + Markup("</svg>")


def thin(points: Sequence[Point], buckets: int = BUCKETS) -> list[Point]:
    """At most two points a bucket, its smallest and its largest, so that no peak is lost; the ends are kept."""
    if len(points) <= 2 * buckets:
        return list(points)
    kept = {points[0], points[-1]}
    for bucket in _split(points, buckets):
        kept.add(min(bucket, key=lambda point: point[1]))
        kept.add(max(bucket, key=lambda point: point[1]))
    return sorted(kept)


def smooth(points: Sequence[tuple[int, float | None]], window: int) -> list[tuple[int, float | None]]:
    """The exponential moving average over about `window` values; a gap stays a gap and does not count."""
    weight = 2 / (window + 1)
    smoothed: list[tuple[int, float | None]] = []
    average: float | None = None
    for step, value in points:
        if value is None or not math.isfinite(value):
            smoothed.append((step, None))
            continue
        average = value if average is None else average + weight * (value - average)
        smoothed.append((step, average))
    return smoothed


def _split(points: Sequence[Point], buckets: int) -> Iterator[Sequence[Point]]:
    for index in range(buckets):
        yield points[index * len(points) // buckets : (index + 1) * len(points) // buckets]


@dataclass(frozen=True)
class _Frame:
    """The area between the axes."""

    x: Scale
    y: Scale

    def at(self, point: Point) -> tuple[float, float]:
        step, value = point
        width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + self.x.place(step) * width, TOP + (1 - self.y.place(value)) * height

    def grid(self, chart: Chart) -> Iterator[Markup]:
        for tick in self.y.ticks:
            _, y = self.at((int(self.x.low), tick))
            yield Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, y, WIDTH - RIGHT)
            yield _text("tick end", LEFT - 8, y + 4, number(tick))
        base = HEIGHT - BOTTOM
        for tick in self.x.ticks:
            x, _ = self.at((round(tick), self.y.low))
            yield Markup('<path class="axis" d="M{:.1f} {}v4"/>').format(x, base)
            yield _text("tick middle", x, base + 18, number(tick))
        yield Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, base, WIDTH - RIGHT)
        yield _text("unit", 8, 16, f"{chart.unit}, log scale" if self.y.logarithmic else chart.unit)
        yield _text("unit end", WIDTH - RIGHT, HEIGHT - 6, chart.axis)

    def line(self, series: Series, runs: list[list[Point]]) -> Markup:
        path = Markup('<path class="line {}" d="{}"/>').format(series.style, "".join(map(self._path, runs)))
        lone = [run[0] for run in runs if len(run) == 1]
        marks = [point for run in runs for point in run] if series.marked else lone
        return path + Markup("").join(self._mark(series, point) for point in thin(marks, 40))

    def strips(self, place: str, lines: list[tuple[str, list[Point]]]) -> Iterator[Markup]:
        """Invisible columns whose tooltip has what the lines show there, each by its nearest point."""
        steps = sorted({step for _, points in lines for step, _ in points})
        chosen = steps[:: math.ceil(len(steps) / STRIPS)]
        nearest = [(name, _nearest(points, chosen)) for name, points in lines]
        width = (WIDTH - LEFT - RIGHT) / len(chosen)
        for index, step in enumerate(chosen):
            x, _ = self.at((step, self.y.high))
            values_there = [f"{name} {number(values[index])}" for name, values in nearest]
            tooltip = Markup("<title>{}</title>").format(f"{place} {step}: {', '.join(values_there)}")
            yield Markup('<rect class="strip" x="{:.1f}" y="{}" width="{:.1f}" height="{}">{}</rect>').format(
                x - width / 2, TOP, width, HEIGHT - TOP - BOTTOM, tooltip
            )

    def _path(self, run: list[Point]) -> str:
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in map(self.at, thin(run)))

    def _mark(self, series: Series, point: Point) -> Markup:
        return Markup('<circle class="mark {}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(series.style, *self.at(point))


def _nearest(points: list[Point], steps: list[int]) -> list[float]:
    values: list[float] = []
    index = 0
    for step in steps:
        while index + 1 < len(points) and abs(points[index + 1][0] - step) <= abs(points[index][0] - step):
            index += 1
        values.append(points[index][1])
    return values


def _describe(chart: Chart, lines: list[tuple[Series, list[list[Point]]]]) -> Markup:
    sentences = " ".join(_sentence(chart.place, series.name, runs) for series, runs in lines)
    return Markup('<title id="{0}-title">{1}</title><desc id="{0}-desc">{2}</desc>').format(
        chart.name, f"{chart.title} ({chart.unit}) by {chart.axis}", sentences
    )


def _sentence(place: str, name: str, runs: list[list[Point]]) -> str:
    (first, start), (last, end) = runs[0][0], runs[-1][-1]
    return f"{name}: {number(start)} at {place} {first}, {number(end)} at {place} {last}."


def _legend(series: Iterable[Series]) -> Iterator[Markup]:
    right = float(WIDTH - RIGHT)
    for entry in reversed(list(series)):
        right -= 6.6 * len(entry.name)
        yield _text("legend", right, 16, entry.name)
        yield Markup('<path class="line key {}" d="M{:.1f} 12h16"/>').format(entry.style, right - 22)
        right -= 38


def _text(style: str, x: float, y: float, text: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(style, x, y, text)
