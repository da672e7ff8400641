"""Writing a checkpoint: all ranks write a draft, each measures its share of the files, rank 0 completes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from transformers import TrainerState

from zerotune_trainer.collectives import barrier, gather
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.manifest import METRICS_NAME, ManifestFile, describe, files_of
from zerotune_trainer.ownership import writing_errors
from zerotune_trainer.progress import Reporter
from zerotune_trainer.training.checkpoints.sharing import Share, check_ranks
from zerotune_trainer.training.checkpoints.store import CheckpointStore, name_of
from zerotune_trainer.training.volume import warn_on_volume
from zerotune_trainer.training.zero import count_parameters


class CheckpointWriter:
    """Writes the checkpoints of a job. Every rank calls the same methods."""

    def __init__(self, store: CheckpointStore, config: TrainConfig, share: Share, output: Path) -> None:
        self._store = store
        self._config = config
        self._share = share
        self._output = output

    @property
    def drafts(self) -> Path:
        """Where the ranks write `checkpoint-STEP` within `writing`."""
        return self._store.drafts

    @contextmanager
    def writing(self, state: TrainerState) -> Iterator[None]:
        """Wrap the writing of a draft; when it is done, complete the checkpoint and remove old ones.

        Raises:
            TemporaryError: the disk is full, or the volume does not answer.
            ConfigurationError: the folder may not be written.
        """
        name = name_of(state.global_step)
        with writing_errors(self._store.uri):
            self._make_room(name)
            barrier()
            yield
            files = self._measure(name)
            if self._share.rank == 0:
                self._complete(name, state, files)
            self._clear_staging()

    def warn_on_volume(self, model: nn.Module, dtype: torch.dtype, report: Reporter) -> None:
        """Warn where the checkpoints of this model will not fit the disk. Rank 0 does."""
        settings = self._config.checkpoint
        if self._share.rank == 0 and settings.save_strategy != "no":
            parameters = count_parameters(model).trained
            kept = 0 if self._store.is_staged else settings.save_total_limit
            warn_on_volume(self._store.path, parameters, dtype, kept, report)

    def _make_room(self, name: str) -> None:
        if self._share.rank == 0:
            self._store.make_room(name)
        elif self._store.is_staged and self._share.is_first:
            shutil.rmtree(self.drafts / name, ignore_errors=True)

    def _measure(self, name: str) -> list[ManifestFile]:
        """Measure the files of the draft, and send them where they belong; each rank its share."""
        draft = self.drafts / name
        if self._share.rank == 0:
            shutil.copyfile(self._output / METRICS_NAME, draft / METRICS_NAME)
        barrier()
        entries = describe(draft, self._share.of_files(sorted(files_of(draft))))
        self._store.push(name, entries)
        by_path = {entry.path: entry for part in gather(entries, list[ManifestFile]) for entry in part}
        return [by_path[path] for path in sorted(by_path)]

    def _complete(self, name: str, state: TrainerState, files: list[ManifestFile]) -> None:
        check_ranks(name, files, self._share.ranks)
        self._store.complete(name, state.global_step, files)
        best = state.best_global_step if self._config.evaluation.load_best_model_at_end else None
        self._store.retain(state.global_step, self._config.checkpoint.save_total_limit, best)

    def _clear_staging(self) -> None:
        """Remove what a host has staged: the store has what is whole."""
        if self._store.is_staged and self._share.is_first:
            for path in self._store.path.glob("checkpoint-*"):
                shutil.rmtree(path)
