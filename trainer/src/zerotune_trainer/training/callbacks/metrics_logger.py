"""What training reports while it runs: progress to the launcher, records to `metrics.jsonl`."""

from __future__ import annotations

import math
import resource
import time
from pathlib import Path
from typing import Any, TextIO

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from zerotune_trainer.config.base import Settings
from zerotune_trainer.manifest import METRICS_NAME
from zerotune_trainer.progress import Progress, Reporter
from zerotune_trainer.reporting.results import EvalRecord, TrainRecord, generation_figures, method_metrics, read_metrics
from zerotune_trainer.sizing.flops import Utilization
from zerotune_trainer.training.evaluation import CONTROL_PERPLEXITY


class MetricsLogger(TrainerCallback):
    """Reports every step, and on rank 0 writes every record.

    The file is held open from the first record on: a later attempt replaces it by one of its own, and what an earlier
    one that still runs has to report goes on into the old one.
    """

    def __init__(
        self, output: Path, reporter: Reporter, *, writes: bool, utilization: Utilization | None = None
    ) -> None:
        self._path = output / METRICS_NAME
        self._reporter = reporter
        self._writes = writes
        self._utilization = utilization
        self._file: TextIO | None = None
        self._stopwatch = _Stopwatch(0.0)
        self._tokens_at_record = self._step_at_record = self._rows_per_step = 0
        self._progress = Progress(step=0, total=0)

    @override
    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the stopwatch where the record of an earlier attempt ends."""
        self._stopwatch = _Stopwatch(last_elapsed(self._path) if self._writes else 0.0)
        self._tokens_at_record, self._step_at_record = state.num_input_tokens_seen, state.global_step
        self._rows_per_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self._progress = Progress(step=state.global_step, total=state.max_steps, first_step=state.global_step)
        self._reporter.phase("training")
        if self._writes:
            self._reporter.progress(self._progress)

    @override
    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A micro batch is done."""
        self._reporter.step(state.global_step)

    @override
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """An optimizer step is done."""
        self._stopwatch.step()
        self._reporter.step(state.global_step)

    @override
    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Record a train or an evaluation record; transformers' summary at the end is neither."""
        if not self._writes:
            return
        logs = kwargs["logs"]
        if "loss" in logs:
            self._train(state, logs)
        elif "eval_loss" in logs:
            self._evaluation(state, logs)

    def pause(self) -> None:
        """Stop the stopwatch that tokens per second go by: evaluating or saving begins."""
        self._stopwatch.pause()

    def resume(self) -> None:
        """Let the stopwatch go on."""
        self._stopwatch.resume()

    def _train(self, state: TrainerState, logs: dict[str, float]) -> None:
        tokens = state.num_input_tokens_seen - self._tokens_at_record
        rows = (state.global_step - self._step_at_record) * self._rows_per_step
        self._tokens_at_record, self._step_at_record = state.num_input_tokens_seen, state.global_step
        speed = tokens / self._stopwatch.lap()
        record = TrainRecord(
            step=state.global_step,
            epoch=state.epoch,
            loss=_finite(logs["loss"]),
            learning_rate=logs["learning_rate"],
            grad_norm=_finite(logs.get("grad_norm")),
            tokens_per_second=speed,
            mfu=self._utilization.at(speed, tokens / max(rows, 1)) if self._utilization else None,
            memory_bytes=_peak_memory(),
            elapsed_seconds=self._stopwatch.elapsed(),
            metrics=method_metrics(logs),
        )
        self._write(record)
        eta = self._stopwatch.seconds_per_step() * (state.max_steps - state.global_step)
        figures = record.model_dump(exclude={"elapsed_seconds", "metrics"})
        self._update(total=state.max_steps, eta_seconds=eta, **figures)

    def _evaluation(self, state: TrainerState, logs: dict[str, float]) -> None:
        loss, perplexity = _finite(logs["eval_loss"]), _finite(logs.get("eval_perplexity"))
        control = _finite(logs.get(CONTROL_PERPLEXITY))
        metrics = method_metrics({name.removeprefix("eval_"): value for name, value in logs.items()})
        self._write(
            EvalRecord(
                step=state.global_step,
                eval_loss=loss,
                perplexity=perplexity,
                control_perplexity=control,
                elapsed_seconds=self._stopwatch.elapsed(),
                metrics=metrics,
            )
        )
        figures = {"control_perplexity": control, "generation": generation_figures(metrics)}
        self._update(eval_loss=loss, perplexity=perplexity, **figures)

    def _write(self, record: Settings) -> None:
        if self._file is None:
            self._file = self._path.open("a", encoding="utf-8")
        self._file.write(record.model_dump_json(by_alias=True, exclude_none=True) + "\n")
        self._file.flush()

    def _update(self, **values: Any) -> None:
        self._progress = self._progress.model_copy(update=values)
        self._reporter.progress(self._progress)


class _Stopwatch:
    """Seconds since the job began, and seconds of training alone."""

    _WEIGHT = 0.1
    """Weight of the newest step in the mean seconds a step."""

    def __init__(self, elapsed_before: float) -> None:
        now = time.monotonic()
        self._start = now - elapsed_before
        self._lap_start = self._step_start = now
        self._paused_at: float | None = None
        self._seconds_per_step: float | None = None

    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def lap(self) -> float:
        """Seconds of training since the last lap."""
        now = time.monotonic()
        seconds, self._lap_start = now - self._lap_start, now
        return max(seconds, 1e-9)

    def step(self) -> None:
        now = time.monotonic()
        seconds, self._step_start = now - self._step_start, now
        mean = self._seconds_per_step
        self._seconds_per_step = seconds if mean is None else mean + self._WEIGHT * (seconds - mean)

    def seconds_per_step(self) -> float:
        return self._seconds_per_step or 0.0

    def pause(self) -> None:
        self._paused_at = time.monotonic()

    def resume(self) -> None:
        assert self._paused_at is not None, "pause() comes first"
        away = time.monotonic() - self._paused_at
        self._lap_start += away
        self._step_start += away


def last_elapsed(path: Path) -> float:
    """`elapsedSeconds` of the last record in a metrics file; 0 where there is none yet."""
    if not path.is_file():
        return 0.0
    last = None
    for record in read_metrics(path.parent):
        last = record
    return (last.elapsed_seconds or 0.0) if last is not None else 0.0


def _peak_memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
