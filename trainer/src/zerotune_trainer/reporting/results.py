"""What a training run leaves behind for people: `metrics.jsonl`, `results.json`, `topology.json`. Torch-free.

`train` writes them, the report and the model card read them; `metrics.jsonl` has one object a line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from zerotune_trainer.config.base import Settings
from zerotune_trainer.errors import DataError, InputMissingError
from zerotune_trainer.manifest import METRICS_NAME, SCRIPT_METRICS_NAME, SCRIPT_RESULTS_NAME
from zerotune_trainer.progress import LONGEST_FIGURE_NAME, MOST_FIGURES, Progress, TopologyEntry

RESULTS_NAME = "results.json"
TOPOLOGY_NAME = "topology.json"
SAMPLES_NAME = "samples.jsonl"


class TrainRecord(Settings):
    """The state of training after an optimizer step. A value that was not measured, or is not finite, is absent."""

    step: int
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens_per_second: float | None = None
    """Tokens of all ranks per second of wall time since the previous record."""
    mfu: float | None = None
    """Model FLOPs utilization since then, as `sizing.flops` counts it; absent where the devices' peak is not known."""
    memory_bytes: int | None = None
    """Peak device memory of rank 0; on CPU its peak resident set."""
    elapsed_seconds: float | None = None
    metrics: dict[str, float] | None = None
    """Figures of a preference method, named as in TRL: `rewards/margins`."""


class EvalRecord(Settings):
    """An evaluation after an optimizer step; step 0 is before training."""

    step: int
    eval_loss: float | None
    perplexity: float | None = None
    control_perplexity: float | None = None
    """Of the control texts."""
    elapsed_seconds: float | None = None
    metrics: dict[str, float] | None = None
    """Figures of a preference method, named as in TRL."""


class Sample(Settings):
    """A text that the model generated at an evaluation. Rows of `samples.jsonl`."""

    step: int
    """Optimizer steps before it; 0: before training."""
    record: str
    """Where its record is: `FILE:LINE`."""
    prompt: str
    """With what the chat template adds."""
    reference: str | None = None
    generation: str


class Results(Settings):
    """The figures of a finished run."""

    steps: int
    epochs: float | None = None
    tokens: int | None = None
    """Tokens trained on, all ranks and epochs, padding excluded."""
    seconds: float | None = None
    """Wall time of training, evaluation included."""
    train_loss: float | None = None
    """Mean loss over all steps."""
    eval_loss: float | None = None
    perplexity: float | None = None
    first_eval_loss: float | None = None
    """Of the evaluation before the first step."""
    first_perplexity: float | None = None
    control_perplexity: float | None = None
    """Of the control texts, whose rise shows what the model has forgotten."""
    first_control_perplexity: float | None = None
    metrics: dict[str, float] | None = None
    """Figures of the same evaluation besides: of a preference method, of generated texts."""
    first_metrics: dict[str, float] | None = None
    best_step: int | None = None
    """Step whose state the output is, where `loadBestModelAtEnd` chose it."""
    zero_stage: int | None = None
    """DeepSpeed ZeRO stage."""
    trained_parameters: int | None = None
    """Parameters that were trained: those of the adapter, where there is one."""
    parameters: int | None = None
    """Parameters in all."""
    counts: dict[str, dict[str, int] | None] = Field(default={})
    """What the train and the validation part of the data hold, and what was left out of them (data.DataCounts)."""
    skipped_checkpoints: list[str] = Field(default=[])
    """Checkpoints that were there when the run was resumed and were not used, and why."""
    changes: list[str] = Field(default=[])
    """What had changed when the run was resumed, such as its data."""


GENERATION = "generation/"
"""What the names of figures of generated texts begin with."""
_METRIC_GROUPS = ("rewards/", "logps/", GENERATION)
_METRICS_BY_NAME = {"kl", "nll_loss", "log_odds_ratio", "log_odds_chosen"}

Metrics = TrainRecord | EvalRecord
_T = TypeVar("_T")
_OTHER_VERSION = "the run that wrote this folder was of another version of zerotune"


def method_metrics(logs: dict[str, float]) -> dict[str, float] | None:
    """What of a log record is a preference method's, as far as it is finite; None where nothing is."""
    found = {
        name: value
        for name, value in logs.items()
        if (name.startswith(_METRIC_GROUPS) or name in _METRICS_BY_NAME) and math.isfinite(value)
    }
    return found or None


def generation_figures(metrics: dict[str, float] | None) -> dict[str, float] | None:
    """Those of generated texts, by the name of the metric, the first few of them: they travel in the status."""
    of_texts = (item for item in (metrics or {}).items() if item[0].startswith(GENERATION))
    found = {name.removeprefix(GENERATION)[:LONGEST_FIGURE_NAME]: value for name, value in of_texts}
    return dict(list(found.items())[:MOST_FIGURES]) or None


def read_samples(folder: Path) -> list[Sample]:
    """The texts of `samples.jsonl`; none where there is no such file.

    Raises:
        DataError: a line is none.
    """
    path = folder / SAMPLES_NAME
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        return [Sample.model_validate_json(line) for line in lines]
    except ValidationError as error:
        raise DataError(f"{path}: {error}", _OTHER_VERSION) from error


def read_metrics(folder: Path, name: str = METRICS_NAME) -> Iterator[Metrics]:
    """The records of `metrics.jsonl`, or of another file of such, in the order they were written.

    Raises:
        InputMissingError: there is no such file.
        DataError: a line is not a record.
    """
    path = _existing(folder / name)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield _METRICS.validate_json(line)
            except ValidationError as error:
                raise DataError(f"{path}:{number}: {error}", _OTHER_VERSION) from error


def read_results(folder: Path, name: str = RESULTS_NAME) -> Results:
    """The figures of `results.json`, or of another file of such.

    Raises:
        InputMissingError: there is no such file.
        DataError: it holds something else.
    """
    return _read(_existing(folder / name), TypeAdapter(Results))


def final_progress(folder: Path) -> Progress:
    """The last figures of a finished run: how far it came, its last train record, and the evaluation of its output.

    Raises:
        InputMissingError: its results or its metrics are not there.
        DataError: one of them holds something else.
    """
    of_script = (folder / SCRIPT_RESULTS_NAME).is_file()
    results = read_results(folder, SCRIPT_RESULTS_NAME if of_script else RESULTS_NAME)
    last = None
    for record in read_metrics(folder, SCRIPT_METRICS_NAME if of_script else METRICS_NAME):
        last = record if isinstance(record, TrainRecord) else last
    figures = last.model_dump(include={"epoch", "loss", "learning_rate", "grad_norm", "memory_bytes"}) if last else {}
    return Progress(
        step=results.steps,
        total=results.steps,
        eval_loss=results.eval_loss,
        perplexity=results.perplexity,
        control_perplexity=results.control_perplexity,
        generation=generation_figures(results.metrics),
        **figures,
    )


def read_topology(folder: Path) -> list[TopologyEntry]:
    """The ranks of `topology.json`.

    Raises:
        InputMissingError: there is no such file.
        DataError: it holds something else.
    """
    return _read(_existing(folder / TOPOLOGY_NAME), TypeAdapter(list[TopologyEntry]))


_METRICS: TypeAdapter[Metrics] = TypeAdapter(Metrics)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputMissingError(f"{path} is not there", "give the output folder of a training run")
    return path


def _read(path: Path, adapter: TypeAdapter[_T]) -> _T:
    try:
        return adapter.validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{path}: {error}", _OTHER_VERSION) from error
