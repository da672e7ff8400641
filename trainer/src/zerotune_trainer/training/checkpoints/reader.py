"""Which checkpoint training resumes from: the newest that is whole and loads, or the one asked for by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transformers import TrainerState

from zerotune_trainer.atomic import write_atomically
from zerotune_trainer.collectives import barrier, gather, on_first_rank
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError, ZerotuneError
from zerotune_trainer.manifest import METRICS_NAME, Manifest, differences
from zerotune_trainer.progress import MOST_WARNINGS, Reporter
from zerotune_trainer.training.checkpoints.loading import first_line, load_problems
from zerotune_trainer.training.checkpoints.sharing import Share, check_ranks
from zerotune_trainer.training.checkpoints.store import CheckpointStore, State, name_of
from zerotune_trainer.zero_checkpoint import allow_state_types

_EPOCH = re.compile(r"^epoch-(?P<epoch>\d+)$")


@dataclass(frozen=True)
class Candidate:
    """A checkpoint to try, and what rank 0 knows of it."""

    name: str
    manifest: Manifest


class CheckpointReader:
    """Finds and fetches the checkpoints of a job. Every rank calls the same methods."""

    def __init__(
        self, store: CheckpointStore, config: TrainConfig, share: Share, output: Path, report: Reporter
    ) -> None:
        self._store = store
        self._config = config
        self._share = share
        self._output = output
        self._report = report
        self.skipped: list[str] = []
        """The checkpoints that were not used though they were there, and why, a sentence each."""
        self.changes: list[str] = []
        """On rank 0: what has changed since training began, with this attempt or an earlier one, a sentence each."""

    def choose(self) -> Path | None:
        """The checkpoint to resume from; None where training begins at the beginning.

        Raises:
            ConfigurationError: a checkpoint of another job is there; the one asked for by name is not whole or does
                not load; or it was written by another number of ranks.
            InputMissingError: the one asked for by name is not there.
        """
        allow_state_types()
        candidates, self.skipped = on_first_rank(self._candidates, tuple[list[Candidate], list[str]])
        for candidate in candidates:
            problems = self._problems(candidate)
            if not problems:
                return self._usable(candidate)
            self._skip(f"{self._store.uri}/{candidate.name} is damaged: {'; '.join(problems[:3])}")
        if self.skipped and self._share.rank == 0 and self._config.checkpoint.resume != "never":
            self._report.warning(f"no checkpoint in {self._store.uri} is whole: training begins at the beginning")
        return None

    def failed(self, checkpoint: Path, error: Exception) -> ZerotuneError:
        """What it means that the engine could not load a checkpoint that was chosen; later attempts skip it.

        Raised on the rank where it happened: the others may wait in a collective for it, and an engine that has
        loaded half of a checkpoint cannot go on. So the attempt ends, and the next one resumes from the checkpoint
        before. It ends in the end: each attempt marks one checkpoint more.
        """
        reason = f"{type(error).__name__}: {first_line(error)}"
        text = f"{self._store.uri}/{checkpoint.name} does not load: {reason}"
        if self._config.checkpoint.resume != "auto":
            return ConfigurationError(text, _RESUME_FROM_ANOTHER)
        self._store.mark_unusable(checkpoint.name, self._share.rank, reason)
        return TemporaryError(text, "it is marked as unusable: the next attempt resumes from the checkpoint before it")

    def best(self, state: TrainerState) -> Path | None:
        """The checkpoint that the output is made of; None where that is the last state.

        Raises:
            ConfigurationError: it is damaged: nothing that this job does again makes it whole.
        """
        asked = self._config.evaluation.load_best_model_at_end
        if not asked or state.best_global_step in (None, state.global_step):
            return None
        name = name_of(state.best_global_step)
        problems = self._problems(on_first_rank(lambda: self._candidate(name), Candidate))
        if problems:
            raise ConfigurationError(
                f"{self._store.uri}/{name}, the state that evaluated best, is damaged: {'; '.join(problems[:3])}",
                "set evaluation.loadBestModelAtEnd to false: the output is the last state then",
            )
        return self._store.path / name

    def _candidates(self) -> tuple[list[Candidate], list[str]]:
        """The checkpoints to try, the best choice first, and why the others are not tried. On rank 0."""
        self._store.discard_drafts()
        states = self._store.states()
        self._store.note_leftovers(states)
        resume = self._config.checkpoint.resume
        if resume == "never":
            return [], []
        newest_first = [name_of(step) for step in reversed(states) if states[step] in _TRIED]
        if resume != "auto":
            return [self._candidate(self._named(resume, newest_first))], []
        skipped = [self._why_not(step, state) for step, state in states.items() if state is not State.COMPLETE]
        complete = [name_of(step) for step in reversed(states) if states[step] is State.COMPLETE]
        return [self._candidate(name) for name in complete], skipped

    def _candidate(self, name: str) -> Candidate:
        manifest = self._store.manifest(name)
        if manifest is None:
            raise TemporaryError(
                f"{self._store.uri}/{name} was complete a moment ago and has no manifest now", "try again"
            )
        return Candidate(name, manifest)

    def _changes(self, manifest: Manifest) -> Iterator[str]:
        """What has changed since a checkpoint was written, and what training goes on with."""
        if manifest.config_digest != self._config.digest():
            yield "was written with another configuration of this job"
        if manifest.data_digest not in (None, self._store.data_digest):
            yield (
                "was written over other rows: the data, or what makes rows of it, has changed since; training goes on "
                "at the same step of the rows as they are now; `resume: never` begins at the beginning"
            )
        if manifest.plugin_digest != self._store.plugin_digest:
            uri = self._config.plugin.uri if self._config.plugin else ""
            yield (
                f"was written with another content of the plug-in {uri}; training goes on with it as it is now; "
                "`resume: never` begins at the beginning"
            )

    def _why_not(self, step: int, state: State) -> str:
        name = name_of(step)
        if state is State.INCOMPLETE:
            text = f"{self._store.uri}/{name} was not completed: it is not used"
        elif state is State.UNUSABLE:
            text = f"{self._store.uri}/{name} is not used: {self._store.reason(name)}"
        else:
            text = f"{self._store.uri}/{name} is damaged: {state.value}"
        self._report.warning(text)
        return text

    def _skip(self, text: str) -> None:
        if self._config.checkpoint.resume != "auto":
            raise ConfigurationError(text, _RESUME_FROM_ANOTHER)
        if self._share.rank == 0:
            self._report.warning(f"{text}; it is not used")
        self.skipped.append(text)

    def _named(self, resume: str, newest_first: list[str]) -> str:
        name, epoch = resume, _EPOCH.match(resume)
        if resume == "best" and newest_first:
            best = self._store.trainer_state(newest_first[0]).best_global_step
            name = resume if best is None else name_of(best)
        elif epoch:
            epochs = {self._store.trainer_state(name).epoch: name for name in newest_first}
            name = epochs.get(int(epoch["epoch"]), resume)
        if name not in newest_first:
            raise InputMissingError(
                f"{self._store.uri} has no checkpoint that checkpoint.resume {resume!r} stands for",
                f"there are: {', '.join(newest_first) or 'none'}",
            )
        return name

    def _problems(self, candidate: Candidate) -> list[str]:
        """What does not agree with the manifest, or does not load; each rank reads its share of the files."""
        path = self._fetched(candidate.name)
        share = list(self._share.of_files(candidate.manifest.files))
        found = differences(path, candidate.manifest.model_copy(update={"files": share}))
        problems = [problem for part in gather(found, list[str]) for problem in part]
        if problems:
            return problems
        found = load_problems(path, [file.path for file in share])
        return [problem for part in gather(found, list[str]) for problem in part]

    def _fetched(self, name: str) -> Path:
        if self._share.is_first:
            self._store.pull(name)
        barrier()
        return self._store.path / name

    def _usable(self, candidate: Candidate) -> Path:
        path = self._store.path / candidate.name
        check_ranks(candidate.name, candidate.manifest.files, self._share.ranks)
        if self._share.rank == 0:
            found = (f"{self._store.uri}/{candidate.name} {change}" for change in self._changes(candidate.manifest))
            # Those that an earlier attempt went on over are true of this model still.
            self.changes = list(dict.fromkeys([*candidate.manifest.changes, *found]))[-MOST_WARNINGS:]
            self._store.changes = self.changes
            for text in self.changes:
                self._report.warning(text)
            # A new file, not new content: an attempt that is cut off and still runs goes on writing to the old one.
            write_atomically(self._output / METRICS_NAME, (path / METRICS_NAME).read_bytes())
        return path


_TRIED = {State.COMPLETE, State.UNUSABLE}
"""What may be asked for by name: a new version of the software may load what an older one could not."""
_RESUME_FROM_ANOTHER = "resume from another checkpoint, or `resume: auto` for the last whole one"
