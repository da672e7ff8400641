"""`report.html`: a finished training run on one page that needs nothing else, not even a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from zerotune_trainer.atomic import write_atomically
from zerotune_trainer.config.jobs import TrainConfig
from zerotune_trainer.progress import TopologyEntry
from zerotune_trainer.reporting.advice import advise
from zerotune_trainer.reporting.charts import Chart, Series, smooth
from zerotune_trainer.reporting.figures import counts_table, duration, final_figures
from zerotune_trainer.reporting.page import REPORT_NAME, cut, render_page
from zerotune_trainer.reporting.results import (
    RESULTS_NAME,
    EvalRecord,
    Results,
    Sample,
    TrainRecord,
    read_metrics,
    read_results,
    read_samples,
    read_topology,
)

SMOOTHED_FROM = 50
"""From this many logged steps on, the training loss is drawn smoothed, with the values behind it."""
GIBIBYTE = 2**30
SHOWN_SAMPLES = 8
"""How many generated texts are shown."""


def write_report(folder: Path, config: TrainConfig) -> Path:
    """Write `report.html` into an output folder, from its metrics, results and topology; returns its path.

    Raises:
        InputMissingError: one of those files is not there.
        DataError: one of them is not what a run of this version writes.
    """
    records = list(read_metrics(folder))
    steps = [record for record in records if isinstance(record, TrainRecord)]
    evaluations = [record for record in records if isinstance(record, EvalRecord)]
    results = read_results(folder)
    page = render_page(
        "training.html",
        _charts(steps, evaluations),
        config=config,
        results=results,
        finished=_finished(folder),
        took=duration(results.seconds),
        figures=final_figures(results, steps),
        hosts=_hosts(read_topology(folder)),
        samples=_samples(read_samples(folder), results),
        counts=counts_table(results.counts),
        advice=[*_skipped(results), *_changed(results), *advise(config, steps, evaluations)],
        config_json=config.model_dump_json(by_alias=True, indent=2),
        place=(config.output.uri or "").removeprefix("file://"),
    )
    path = folder / REPORT_NAME
    write_atomically(path, page)
    return path


def _skipped(results: Results) -> list[str]:
    return [
        f"When the run was resumed, a checkpoint was skipped: {text}. See what became of its volume."
        for text in results.skipped_checkpoints
    ]


def _changed(results: Results) -> list[str]:
    return [f"The run was resumed though something had changed: {text}." for text in results.changes]


def _finished(folder: Path) -> str:
    moment = datetime.fromtimestamp((folder / RESULTS_NAME).stat().st_mtime, UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _charts(steps: Sequence[TrainRecord], evaluations: Sequence[EvalRecord]) -> list[Chart]:
    def line(name: str, value: Callable[[TrainRecord], float | None]) -> list[Series]:
        return [Series(name, "first", [(record.step, value(record)) for record in steps])]

    def marks(value: Callable[[EvalRecord], float | None]) -> Series:
        return Series("evaluation", "second", [(record.step, value(record)) for record in evaluations], marked=True)

    losses = _loss([(record.step, record.loss) for record in steps])
    return [
        Chart("loss", "Loss", "nats per token", [*losses, marks(lambda record: record.eval_loss)]),
        Chart("perplexity", "Perplexity", "perplexity", [marks(lambda record: record.perplexity)]),
        Chart("control", "Control perplexity", "perplexity", [marks(lambda record: record.control_perplexity)]),
        Chart("rate", "Learning rate", "learning rate", line("rate", lambda record: record.learning_rate), True),
        Chart("norm", "Gradient norm", "norm before clipping", line("norm", lambda record: record.grad_norm)),
        Chart("speed", "Speed", "tokens per second", line("all ranks", lambda record: record.tokens_per_second), True),
        Chart("memory", "Memory", "GiB", line("peak of rank 0", _gibibytes), True),
    ]


def _loss(losses: list[tuple[int, float | None]]) -> list[Series]:
    if len(losses) < SMOOTHED_FROM:
        return [Series("training", "first", losses)]
    window = max(5, len(losses) // 40)
    return [Series("logged", "faint", losses), Series("training, smoothed", "first", smooth(losses, window))]


def _gibibytes(record: TrainRecord) -> float | None:
    return None if record.memory_bytes is None else record.memory_bytes / GIBIBYTE


@dataclass(frozen=True)
class HostRow:
    """A host and its ranks, as the report lists them."""

    host: str
    hostname: str
    ranks: str
    devices: str
    processes: str


@dataclass(frozen=True)
class SampleRow:
    """What the model generated for a prompt, before training and as it is in the output."""

    prompt: str
    reference: str
    before: str
    after: str


def _samples(samples: Sequence[Sample], results: Results) -> list[SampleRow]:
    """The first prompts, with the texts of the first evaluation and of that of the output."""
    last = results.best_step if results.best_step is not None else max((one.step for one in samples), default=0)
    firsts = {one.record: one.generation for one in samples if one.step == 0}
    of_output = [one for one in samples if one.step == last][:SHOWN_SAMPLES]
    return [
        SampleRow(cut(one.prompt), cut(one.reference or ""), cut(firsts.get(one.record, "")), cut(one.generation))
        for one in of_output
    ]


def _hosts(topology: list[TopologyEntry]) -> list[HostRow]:
    groups = groupby(topology, key=lambda entry: (entry.host, entry.hostname))
    return [_host(host, hostname, list(entries)) for (host, hostname), entries in groups]


def _host(host: str, hostname: str, entries: list[TopologyEntry]) -> HostRow:
    first, last = entries[0].rank, entries[-1].rank
    return HostRow(
        host=host,
        hostname=hostname,
        ranks=str(first) if first == last else f"{first} to {last}",
        devices=", ".join(sorted({entry.device for entry in entries})),
        processes=", ".join(str(entry.pid) for entry in entries),
    )
