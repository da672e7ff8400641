"""`report.html` of a finished InferenceJob: figures, pace, lengths, errors and the first records. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate

from zerotune_trainer.config.jobs import InferConfig
from zerotune_trainer.reporting.charts import Chart, Series
from zerotune_trainer.reporting.figures import Figure, duration
from zerotune_trainer.reporting.inference_results import FileFigures, InferenceResults
from zerotune_trainer.reporting.page import render_page
from zerotune_trainer.reporting.record_outcomes import ShownRecord
from zerotune_trainer.reporting.scales import number


def inference_page(
    config: InferConfig,
    results: InferenceResults,
    files: Sequence[FileFigures],
    errors: Mapping[str, int],
    shown: Sequence[ShownRecord],
) -> bytes:
    """The page.

    Args:
        config: The job's.
        results: Its figures.
        files: Those of its output files, in order.
        errors: Classes of errors, and how many records have failed of each.
        shown: The first records.
    """
    return render_page(
        "inference.html",
        _charts(files),
        config=config,
        results=results,
        finished=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        figures=_figures(results),
        errors=sorted(errors.items(), key=lambda item: (-item[1], item[0])),
        shown=shown,
        config_json=config.model_dump_json(by_alias=True, indent=2),
    )


def _figures(results: InferenceResults) -> list[Figure]:
    """The most telling figure first; what was not measured is left out."""
    seconds = ("Median batch", results.median_batch_seconds), ("Slowest batch", results.slowest_batch_seconds)
    pace = results.tokens_per_second_per_rank
    return [
        Figure("Records", f"{results.records:,}"),
        Figure("Failed records", f"{results.failed_records:,}"),
        *([] if pace is None else [Figure("Tokens per second and rank", number(pace))]),
        Figure("Generating, all ranks together", duration(results.generating_seconds)),
        Figure("Prompt tokens", f"{results.prompt_tokens:,}"),
        Figure("New tokens", f"{results.new_tokens:,}"),
        Figure("Output files", f"{results.files:,}"),
        Figure("Batches", f"{results.batches:,}"),
        *(Figure(name, duration(value)) for name, value in seconds if value is not None),
    ]


def _charts(files: Sequence[FileFigures]) -> list[Chart]:
    """A point an output file, above its last record."""
    ends = list(accumulate(file.records for file in files))

    def line(name: str, style: str, value: Callable[[FileFigures], float]) -> Series:
        points = [(end, value(file) if file.seconds else None) for end, file in zip(ends, files, strict=True)]
        return Series(name, style, points, marked=True)

    pace = [line("mean of a file", "first", lambda file: file.new_tokens / file.seconds)]
    lengths = [
        line("prompt", "first", lambda file: file.prompt_tokens / file.records),
        line("answer", "second", lambda file: file.new_tokens / file.records),
    ]
    return [
        Chart("speed", "Speed", "tokens per second and rank", pace, from_zero=True, axis="record"),
        Chart("lengths", "Lengths", "tokens per record", lengths, from_zero=True, axis="record"),
    ]
