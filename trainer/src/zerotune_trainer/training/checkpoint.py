"""Checkpoints: complete or absent. A folder counts only with a manifest that its files agree with.

writing  every rank writes its part, measures its share of the files, rank 0 writes the manifest last
choose   the newest checkpoint that is whole (or the one asked for by name), measured again by all ranks
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedModel, TrainerState

from zerotune_trainer.config import TrainConfig
from zerotune_trainer.context import RankContext
from zerotune_trainer.distributed import barrier, gather, on_first_rank
from zerotune_trainer.errors import ConfigurationError, InputMissingError
from zerotune_trainer.manifest import (
    MANIFEST_NAME,
    Manifest,
    ManifestFile,
    describe,
    differences,
    files_of,
    read_manifest,
)
from zerotune_trainer.ownership import check_owner, writing_errors
from zerotune_trainer.reporting.results import METRICS_NAME
from zerotune_trainer.storage import Folder
from zerotune_trainer.training.volume import warn_on_volume

_NAME = re.compile(r"^checkpoint-(?P<step>\d+)$")
_EPOCH = re.compile(r"^epoch-(?P<epoch>\d+)$")
_STATE_NAME = "trainer_state.json"
_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of a job, in one folder, `checkpoint-STEP` each. Every rank calls the same methods."""

    def __init__(self, folder: Folder, config: TrainConfig, context: RankContext, output: Path) -> None:
        self._folder = folder
        self._config = config
        self._context = context
        self._output = output

    @property
    def path(self) -> Path:
        """Where they are written."""
        return self._folder.local

    @property
    def keeps_best(self) -> bool:
        """Whether the state that evaluates best is kept, for the output is made of it."""
        return self._config.evaluation.load_best_model_at_end

    def warn_on_volume(self, model: PreTrainedModel) -> None:
        """Warn where the checkpoints of this model will not fit the disk. Rank 0 does."""
        settings = self._config.checkpoint
        if self._context.rank == 0 and settings.save_strategy != "no":
            # Under ZeRO-3 a parameter holds only this rank's part, and says in ds_numel how large it is.
            parameters = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters())
            kept = 0 if self._is_staged else settings.save_total_limit
            warn_on_volume(self.path, parameters, model.dtype, kept)

    @contextmanager
    def writing(self, state: TrainerState) -> Iterator[None]:
        """Wrap the writing of `checkpoint-STEP`; when it is done, complete the checkpoint and drop old ones.

        Raises:
            TemporaryError: the disk is full, or the volume does not answer.
            ConfigurationError: the folder may not be written.
        """
        name = f"checkpoint-{state.global_step}"
        with writing_errors(self._folder.uri):
            if self._place[0] == 0:
                self._clear(name)
            barrier()
            yield
            self._complete(name, state)

    def choose(self) -> Path | None:
        """The checkpoint to resume from; None where training begins at the beginning.

        Raises:
            ConfigurationError: a checkpoint of another job is there; the one asked for by name is not whole; or it
                was written by another number of ranks.
            InputMissingError: the one asked for by name is not there.
        """
        names = on_first_rank(self._candidates)
        for name in names:
            problems = self._problems(name)
            if not problems:
                return self._usable(name)
            text = f"{self._folder.uri}/{name} is damaged: {'; '.join(problems[:3])}"
            if self._config.checkpoint.resume != "auto":
                raise ConfigurationError(
                    text, "resume from another checkpoint, or `resume: auto` for the last whole one"
                )
            if self._context.rank == 0:
                _log.warning("%s; it is not used", text)
        if names and self._context.rank == 0:
            _log.warning("no checkpoint in %s is whole: training begins at the beginning", self._folder.uri)
        return None

    def best(self, state: TrainerState) -> Path | None:
        """The checkpoint that the output is made of; None where that is the last state."""
        if not self.keeps_best or state.best_global_step in (None, state.global_step):
            return None
        path = self._folder.local / f"checkpoint-{state.best_global_step}"
        if self._place[0] == 0:
            self._folder.pull(path.name)
        barrier()
        return path

    def _complete(self, name: str, state: TrainerState) -> None:
        path = self._folder.local / name
        if self._context.rank == 0:
            shutil.copyfile(self._output / METRICS_NAME, path / METRICS_NAME)
        barrier()
        index, count = self._place
        entries = describe(path, sorted(files_of(path))[index::count])
        self._folder.push([f"{name}/{entry.path}" for entry in entries])
        described = {entry.path: entry for part in gather(entries) for entry in part}
        if self._context.rank == 0:
            self._seal(name, state.global_step, [described[path] for path in sorted(described)])
            self._drop_old(state)
        if self._is_staged and index == 0:
            self._clear(name)

    def _clear(self, name: str) -> None:
        """Remove what is here of a checkpoint, or of all of them where they are staged: the store has what is whole."""
        for path in self._folder.local.glob("checkpoint-*" if self._is_staged else name):
            shutil.rmtree(path)

    def _seal(self, name: str, step: int, files: list[ManifestFile]) -> None:
        manifest = Manifest(job=self._config.job, config_digest=self._config.digest(), step=step, files=files)
        _check_ranks(name, manifest, self._context.world_size)
        self._folder.write(f"{name}/{MANIFEST_NAME}", manifest.encoded())

    @property
    def _is_staged(self) -> bool:
        """Whether the folder is in a store, and each host has a folder of its own for what it sends and fetches."""
        return self._folder.is_staged

    @property
    def _place(self) -> tuple[int, int]:
        """This rank among those that see the same folder: all of them, or those of a host where it is staged."""
        if self._is_staged:
            return self._context.local_rank, self._context.host.slots
        return self._context.rank, self._context.world_size

    def _drop_old(self, state: TrainerState) -> None:
        steps = [step for step in self._steps() if step <= state.global_step]
        keep = set(steps[-self._config.checkpoint.save_total_limit :])
        if self.keeps_best and state.best_global_step is not None:
            keep.add(state.best_global_step)
        for step in set(steps) - keep:
            self._remove(f"checkpoint-{step}")

    def _remove(self, name: str) -> None:
        # Without its manifest first: a removal that is cut short leaves nothing that looks whole.
        self._folder.remove(f"{name}/{MANIFEST_NAME}")
        self._folder.remove(name)

    def _steps(self) -> list[int]:
        """Steps of the checkpoints there are, whole or not, in order."""
        matches = (_NAME.match(child) for child in self._folder.children())
        return sorted(int(match["step"]) for match in matches if match)

    def _candidates(self) -> list[str]:
        """Names of the checkpoints to try, the best choice first. Checkpoints that were not completed are removed."""
        complete = [step for step in self._steps() if self._is_complete(f"checkpoint-{step}")]
        resume = self._config.checkpoint.resume
        if resume == "never":
            return []
        newest_first = [f"checkpoint-{step}" for step in reversed(complete)]
        return newest_first if resume == "auto" else [self._named(resume, newest_first)]

    def _is_complete(self, name: str) -> bool:
        self._folder.fetch(f"{name}/{MANIFEST_NAME}")
        manifest = read_manifest(self._folder.local / name)
        if manifest is None:
            self._pass_over(name)
            return False
        check_owner(self._folder.uri, manifest.job, self._config.job)
        if manifest.config_digest != self._config.digest():
            _log.warning("%s/%s was written with another configuration of this job", self._folder.uri, name)
        return True

    def _pass_over(self, name: str) -> None:
        """Remove what a crash left of a checkpoint. One that was whole stays, for who can mend its manifest."""
        if (self._folder.local / name / MANIFEST_NAME).is_file():
            _log.warning("%s/%s is damaged: its manifest cannot be read", self._folder.uri, name)
            return
        _log.warning("%s/%s was not completed: it is removed", self._folder.uri, name)
        self._remove(name)

    def _named(self, resume: str, newest_first: list[str]) -> str:
        states = {name: self._state(name) for name in newest_first}
        epoch, name = _EPOCH.match(resume), resume
        if resume == "best" and states:
            name = f"checkpoint-{states[newest_first[0]].best_global_step}"
        elif epoch:
            name = next((name for name, state in states.items() if state.epoch == int(epoch["epoch"])), resume)
        if name not in states:
            raise InputMissingError(
                f"{self._folder.uri} has no checkpoint that checkpoint.resume {resume!r} stands for",
                f"there are: {', '.join(newest_first) or 'none'}",
            )
        return name

    def _state(self, name: str) -> TrainerState:
        self._folder.fetch(f"{name}/{_STATE_NAME}")
        state: TrainerState = TrainerState.load_from_json(str(self._folder.local / name / _STATE_NAME))
        return state

    def _problems(self, name: str) -> list[str]:
        """What does not agree with the manifest; each rank measures its share of the files."""
        index, count = self._place
        if index == 0:
            self._folder.pull(name)
        barrier()
        path = self._folder.local / name
        manifest = read_manifest(path)
        assert manifest is not None, "only complete checkpoints are candidates"
        share = manifest.files[index::count]
        found = differences(path, manifest.model_copy(update={"files": share}))
        return [problem for part in gather(found) for problem in part]

    def _usable(self, name: str) -> Path:
        path = self._folder.local / name
        manifest = read_manifest(path)
        assert manifest is not None, "it has just been verified"
        _check_ranks(name, manifest, self._context.world_size)
        if self._context.rank == 0:
            shutil.copyfile(path / METRICS_NAME, self._output / METRICS_NAME)
        return path


def _check_ranks(name: str, manifest: Manifest, world_size: int) -> None:
    """Each rank leaves the state of its random numbers, so their files count the ranks."""
    ranks = sum(file.path.startswith("rng_state") for file in manifest.files)
    if ranks != world_size:
        raise ConfigurationError(
            f"{name} has the parts of {ranks} ranks, and this job runs on {world_size}",
            "run on as many ranks as wrote it, let all hosts see one checkpoint folder, or set `resume: never`",
        )
