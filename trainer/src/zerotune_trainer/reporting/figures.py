"""The figures of a finished run as text, for the report and the model card. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from zerotune_trainer.reporting.results import Results, TrainRecord
from zerotune_trainer.reporting.scales import number


@dataclass(frozen=True)
class Figure:
    """A figure, and what it was before training where that is known."""

    name: str
    value: str
    before: str = ""


@dataclass(frozen=True)
class Table:
    """Named columns, and rows with a name and a text a column."""

    columns: list[str]
    rows: list[tuple[str, list[str]]]


def final_figures(results: Results, steps: Sequence[TrainRecord] = ()) -> list[Figure]:
    """What the run came to, the most telling figure first; what was not measured is left out."""
    candidates = (
        _compared("Perplexity", results.perplexity, results.first_perplexity),
        _compared("Evaluation loss", results.eval_loss, results.first_eval_loss),
        _compared("Control perplexity", results.control_perplexity, results.first_control_perplexity),
        *_metrics(results),
        _figure("Training loss", results.train_loss),
        Figure("Optimizer steps", f"{results.steps:,}"),
        _figure("Epochs", results.epochs),
        Figure("Tokens trained", f"{results.tokens:,}") if results.tokens is not None else None,
        Figure("Time", duration(results.seconds)) if results.seconds is not None else None,
        _figure("Tokens per second", _speed(results)),
        _utilization(steps),
        Figure("Output is the state of step", f"{results.best_step:,}") if results.best_step is not None else None,
        _peak(steps),
        Figure("ZeRO stage", str(results.zero_stage)) if results.zero_stage is not None else None,
        _trained(results),
    )
    return [figure for figure in candidates if figure]


def counts_table(counts: dict[str, dict[str, int] | None]) -> Table:
    """The data's counts, a row a count and a column a split; a split that there is not is left out."""
    splits = {name: numbers for name, numbers in counts.items() if numbers}
    names = dict.fromkeys(name for numbers in splits.values() for name in numbers)
    rows = [(_title(name), [_count(numbers.get(name)) for numbers in splits.values()]) for name in names]
    return Table([_title(name) for name in splits], rows)


def duration(seconds: float | None) -> str:
    """`1 h 02 min`, `3 min 20 s`, `4.2 s`; empty where unknown."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _figure(name: str, value: float | None) -> Figure | None:
    return None if value is None else Figure(name, number(value))


def _compared(name: str, value: float | None, before: float | None) -> Figure | None:
    if value is None:
        return None
    return Figure(name, number(value), "" if before is None else number(before))


def _metrics(results: Results) -> list[Figure | None]:
    first = results.first_metrics or {}
    return [_compared(name, value, first.get(name)) for name, value in (results.metrics or {}).items()]


def _speed(results: Results) -> float | None:
    return results.tokens / results.seconds if results.tokens and results.seconds else None


def _utilization(steps: Sequence[TrainRecord]) -> Figure | None:
    shares = [record.mfu for record in steps if record.mfu is not None]
    return Figure("Model FLOPs utilization, median", f"{median(shares):.1%}") if shares else None


def _trained(results: Results) -> Figure | None:
    trained, total = results.trained_parameters, results.parameters
    if trained is None or not total:
        return None
    return Figure("Parameters trained", f"{trained:,}" + (f" of {total:,}" if trained < total else ""))


def _peak(steps: Sequence[TrainRecord]) -> Figure | None:
    peak = max((record.memory_bytes for record in steps if record.memory_bytes), default=0)
    return Figure("Peak memory of rank 0", f"{peak / 2**30:.2f} GiB") if peak else None


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _title(name: str) -> str:
    spaced = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name.replace("_", " "))
    return spaced[:1].upper() + spaced[1:]
