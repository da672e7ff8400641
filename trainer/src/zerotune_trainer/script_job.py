"""What a script of method script knows of its job, and how it reports.

    from zerotune_trainer import script_job

    job = script_job.current()
    for step in range(job.last_step(), total):
        ...
        job.progress(step + 1, total, loss=loss)       # shown in status; a rank that reports no more counts as hung
        if job.asked_to_stop():                        # the same answer on every rank
            save(job.checkpoints / "last")
            job.stop()

The process group is there when the script begins. All that lies in `job.output` at the end is the result.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from zerotune_trainer import collectives
from zerotune_trainer.adapters import model_folders
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.context import RankContext
from zerotune_trainer.errors import ConfigurationError, StoppedError
from zerotune_trainer.manifest import OWNER_NAME, SCRIPT_METRICS_NAME
from zerotune_trainer.ownership import Ownership
from zerotune_trainer.progress import Progress
from zerotune_trainer.reporting.results import TrainRecord

ZEROTUNE_OUTPUT, ZEROTUNE_CHECKPOINTS = "ZEROTUNE_OUTPUT", "ZEROTUNE_CHECKPOINTS"
"""Variables that name the folders of a script's result and checkpoints."""
_QUIET_SECONDS = 10.0
_current: ScriptJob | None = None


def current() -> ScriptJob:
    """The job that runs this script.

    Raises:
        ConfigurationError: none does.
    """
    if _current is None:
        raise ConfigurationError(
            "the script is not run by zerotune", "name it as script.file of a FineTuneJob with method: script"
        )
    return _current


def enter(job: ScriptJob) -> None:
    """Make a job the current one of this process."""
    global _current
    _current = job


@dataclass
class ScriptJob:
    """A rank's part of the job."""

    config: TrainConfig
    """The job, every URI of it as this rank reads it."""
    context: RankContext
    """The rank's place among the others."""
    result: Ownership
    """Of the output."""
    saved: Ownership
    """Of the checkpoints."""
    last: Progress | None = None
    """What was reported last."""
    _reports: threading.Event = field(default_factory=threading.Event)
    _began: float = field(default_factory=time.monotonic)

    @property
    def output(self) -> Path:
        """Receives the result. All ranks of a host share it; where it is on S3 it is sent there at the end. Elsewhere
        it still holds what an attempt that failed has written: write over it, or remove it.
        """
        return self.result.folder.local

    @property
    def checkpoints(self) -> Path:
        """Holds what earlier attempts saved, and receives what this one saves. Names in it that begin with a dot are
        zerotune's.
        """
        return self.saved.folder.local

    @property
    def deepspeed(self) -> dict[str, Any]:
        """The DeepSpeed configuration that the plan has made."""
        settings: dict[str, Any] = json.loads((self.context.folder / "deepspeed.json").read_bytes())
        return settings

    def model_folder(self) -> Path:
        """The folder of the model on this machine, fetched where it is elsewhere.

        Raises:
            InputMissingError, ConfigurationError, TemporaryError: as `storage.local_folder`.
        """
        return model_folders(self.config).base

    def progress(self, step: int, total: int, *, loss: float | None = None, **figures: float) -> None:
        """Report that a step is done. Rank 0's figures are shown in the status and written to `zerotune-metrics.jsonl`.

        Args:
            step: Steps done.
            total: Steps there are.
            loss: Loss of the step.
            figures: `learning_rate`, `grad_norm`, `tokens_per_second`; any other goes to the metrics alone.

        Raises:
            ValidationError: one is no number.
            ValueError: `step` is not from 0 to `total`.
        """
        if not 0 <= step <= total:
            raise ValueError(f"step {step} of {total} steps: report the steps that are done, of all there are")
        self._reports.set()
        known = {name: value for name, value in figures.items() if name in Progress.model_fields}
        first = step - 1 if self.last is None else self.last.first_step
        if self.last is None and self.context.rank == 0:
            self._forget_records_from(step)
        self.last = Progress.model_validate({"step": step, "total": total, "first_step": first, "loss": loss, **known})
        if self.context.rank != 0:
            self.context.report.step(step)
            return
        self.context.report.progress(self.last)
        self._write(step, loss, figures)

    def asked_to_stop(self) -> bool:
        """Whether the job is to stop, as after Ctrl-C: the same answer on every rank. All ask at the same point."""
        return collectives.any_rank(self.context.stop.is_set())

    def stop(self) -> NoReturn:
        """End because of that. The next attempt finds what was saved in `checkpoints`.

        Raises:
            StoppedError: always.
        """
        step = self.last.step if self.last else 0
        raise StoppedError(f"stopped on request after step {step}")

    def checkpointed(self, name: str) -> None:
        """Say that a file or folder below `checkpoints` is whole. Every rank calls it; folders on S3 get it now.

        Raises:
            SupersededError: a later attempt of the job has the folder.
            TemporaryError, ConfigurationError: the store does not take it.
        """
        _require(self.saved, ZEROTUNE_CHECKPOINTS)
        collectives.on_first_rank(self.saved.verify, type(None))
        if self.context.local_rank == 0:
            self.saved.folder.push([name])
        if self.context.rank == 0 and (self.output / SCRIPT_METRICS_NAME).is_file():
            self.result.folder.push([SCRIPT_METRICS_NAME])
        collectives.barrier()

    def require_output(self) -> None:
        """See that the output folder is there.

        Raises:
            ConfigurationError: it is not: only the script may have removed it.
        """
        _require(self.result, ZEROTUNE_OUTPUT)

    def keep_alive_until_reported(self) -> Callable[[], None]:
        """Report that the rank is there, as long as the script reports nothing itself: it need not know of zerotune.

        Returns:
            What ends that.
        """

        def report() -> None:
            while not self._reports.wait(_QUIET_SECONDS):
                self.context.report.step(0)

        threading.Thread(target=report, name="keep-alive", daemon=True).start()
        return self._reports.set

    def _forget_records_from(self, step: int) -> None:
        """Drop what an earlier attempt wrote of steps that are made again."""
        path = self.output / SCRIPT_METRICS_NAME
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        path.write_text("".join(line for line in lines if json.loads(line)["step"] < step))

    def _write(self, step: int, loss: float | None, figures: dict[str, float]) -> None:
        known = {name: value for name, value in figures.items() if name in TrainRecord.model_fields}
        others = {name: value for name, value in figures.items() if name not in TrainRecord.model_fields}
        seconds = time.monotonic() - self._began
        record = TrainRecord.model_validate(
            {"step": step, "loss": loss, "elapsed_seconds": seconds, "metrics": others or None, **known}
        )
        with (self.output / SCRIPT_METRICS_NAME).open("a", encoding="utf-8") as lines:
            lines.write(record.model_dump_json(by_alias=True, exclude_none=True) + "\n")


def _require(folder: Ownership, variable: str) -> None:
    """See that a script has not removed a folder of the job, or the file in it that says whose it is.

    Raises:
        ConfigurationError: it has.
    """
    local, staged = folder.folder.local, folder.folder.is_staged
    if not local.is_dir() or not (staged or (local / OWNER_NAME).is_file()):
        raise ConfigurationError(
            f"{folder.folder.uri} is not there any more, or its {OWNER_NAME} is not: the script has removed it",
            f"let the script remove only what it has written below {variable}, and never the folder itself",
        )
