"""The checkpoint folders of a job: what is there, what state it is in, completing and removing it.

    checkpoint-STEP/               complete: its manifest names every file
    checkpoint-STEP/unusable.json  an attempt could not load it: not used unless it is asked for by name
    .attempt-N/checkpoint-STEP/    what attempt N writes; moved into place when it is complete

In a store (S3) there are no drafts: each host writes to a staging folder of its attempt, and the files are pushed from
there, the manifest last. Nothing here speaks to other ranks.
"""

from __future__ import annotations

import enum
import logging
import re
import shutil
import time
from pathlib import Path

from pydantic import ValidationError
from transformers import TrainerState

from zerotune_trainer.atomic import sync, write_atomically
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.base import Settings
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.manifest import MANIFEST_NAME, Manifest, ManifestFile, read_manifest
from zerotune_trainer.ownership import Ownership, check_owner
from zerotune_trainer.training.checkpoints.retention import Retained, superfluous
from zerotune_trainer.training.drafts import discard_drafts, draft_folder

_NAME = re.compile(r"^checkpoint-(?P<step>\d+)$")
_MARK_NAME = "unusable.json"
_STATE_NAME = "trainer_state.json"
_SECONDS_BEFORE_A_SECOND_CHECK = 1.0
_log = logging.getLogger(__name__)


class State(enum.Enum):
    """How a checkpoint folder is found."""

    COMPLETE = "complete"
    UNUSABLE = "complete, but an attempt could not load it"
    DAMAGED = "its manifest cannot be read"
    INCOMPLETE = "it has no manifest"


class Unusable(Settings):
    """Why an attempt could not load a checkpoint, beside its manifest."""

    attempt: int
    rank: int
    reason: str


class CheckpointStore:
    """The checkpoints of a job, in one folder."""

    def __init__(
        self, ownership: Ownership, config: TrainConfig, data_digest: str, plugin_digest: str | None = None
    ) -> None:
        self._ownership = ownership
        self.data_digest = data_digest
        self.plugin_digest = plugin_digest
        self.changes: list[str] = []
        """What has changed since training began, as checkpoints from now on say it, so that later attempts know."""
        self.folder = self._folder = ownership.folder
        self._config = config
        self._leftovers: set[int] = set()

    @property
    def uri(self) -> str:
        """Where they belong."""
        return self._folder.uri

    @property
    def path(self) -> Path:
        """Where they are on this machine, or are staged."""
        return self._folder.local

    @property
    def is_staged(self) -> bool:
        """Whether they are in a store, and each host has a folder of its own for what it sends and fetches."""
        return self._folder.is_staged

    @property
    def drafts(self) -> Path:
        """Where this attempt writes: nobody else does."""
        return self.path if self.is_staged else draft_folder(self.path, self._config.job.attempt)

    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, in whatever state, in order."""
        matches = (_NAME.match(child) for child in self._folder.children())
        return sorted(int(match["step"]) for match in matches if match)

    def states(self) -> dict[int, State]:
        """How the checkpoints are found, by step, in order. Where a manifest is not there it is asked for twice.

        Raises:
            ConfigurationError: one is another job's.
        """
        states = {step: self._state(name_of(step)) for step in self.steps()}
        absent = [step for step, state in states.items() if state is State.INCOMPLETE]
        if absent:
            time.sleep(_SECONDS_BEFORE_A_SECOND_CHECK)
        return states | {step: self._state(name_of(step)) for step in absent}

    def manifest(self, name: str) -> Manifest | None:
        """The manifest of a checkpoint that is complete."""
        self._fetch(name, MANIFEST_NAME)
        return read_manifest(self.path / name)

    def trainer_state(self, name: str) -> TrainerState:
        """The state of training that a checkpoint holds.

        Raises:
            ConfigurationError: it cannot be read.
        """
        self._fetch(name, _STATE_NAME)
        try:
            state: TrainerState = TrainerState.load_from_json(str(self.path / name / _STATE_NAME))
        except (OSError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{self.uri}/{name}/{_STATE_NAME} does not load: {error}", "name the checkpoint to resume from"
            ) from error
        return state

    def pull(self, name: str) -> Path:
        """Bring a checkpoint to this machine; returns where it is."""
        self._folder.pull(name)
        return self.path / name

    def push(self, name: str, files: list[ManifestFile]) -> None:
        """Send files of a draft to the store, where there is one.

        Raises:
            SupersededError: a later attempt writes there now.
        """
        if self.is_staged and files:
            self._ownership.verify()
        self._folder.push([f"{name}/{file.path}" for file in files])

    def make_room(self, name: str) -> None:
        """Remove what an attempt that died has left of a draft, and from a store what is to be replaced."""
        shutil.rmtree(self.drafts / name, ignore_errors=True)
        if self.is_staged:
            self._ownership.verify()
            self.remove(name)

    def complete(self, name: str, step: int, files: list[ManifestFile]) -> None:
        """Complete the draft of a checkpoint, whose files have been measured and are where they belong.

        Raises:
            SupersededError: a later attempt has the folder: this one completes nothing any more.
        """
        self._ownership.verify()
        manifest = Manifest(
            job=self._config.job,
            config_digest=self._config.digest(),
            step=step,
            files=files,
            data_digest=self.data_digest,
            plugin_digest=self.plugin_digest,
            changes=self.changes,
        )
        if self.is_staged:
            self._folder.write(f"{name}/{MANIFEST_NAME}", manifest.encoded())
        else:
            write_atomically(self.drafts / name / MANIFEST_NAME, manifest.encoded())
            self._move_into_place(name)

    def mark_unusable(self, name: str, rank: int, reason: str) -> None:
        """Note for later attempts that a checkpoint does not load."""
        self._ownership.verify()
        mark = Unusable(attempt=self._config.job.attempt, rank=rank, reason=reason)
        self._folder.write(f"{name}/{_MARK_NAME}", mark.model_dump_json(by_alias=True).encode() + b"\n")

    def reason(self, name: str) -> str:
        """Why a checkpoint is unusable."""
        path = self.path / name / _MARK_NAME
        try:
            mark = Unusable.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return f"{_MARK_NAME} says so"
        return f"attempt {mark.attempt} could not load it: {mark.reason}"

    def remove(self, name: str) -> None:
        """Remove a checkpoint, its manifest first: a removal that is cut short leaves nothing that seems whole."""
        self._folder.remove(f"{name}/{MANIFEST_NAME}")
        self._folder.remove(name)

    def discard_drafts(self) -> None:
        """Remove what attempts that are over have left of checkpoints that they were writing."""
        for name in discard_drafts(self.path, self._config.job.attempt):
            _log.warning("%s/%s was not completed: it is removed", self.uri, name)

    def note_leftovers(self, states: dict[int, State]) -> None:
        """Remember the checkpoints that were there without a manifest when this attempt began."""
        self._leftovers = {step for step, state in states.items() if state is State.INCOMPLETE}

    def retain(self, step: int, limit: int, best: int | None) -> None:
        """Remove what need not be kept once the checkpoint of `step` is complete.

        A folder without a manifest goes only where it was there when this attempt began, and still has none now that
        the attempt has written a checkpoint: an earlier attempt was writing it, and can complete none any more. That
        a store does not know a manifest once proves nothing.
        """
        states = self.states()
        for leftover in self._leftovers & {found for found, state in states.items() if state is State.INCOMPLETE}:
            _log.warning("%s/%s was not completed: it is removed", self.uri, name_of(leftover))
            self._folder.remove(name_of(leftover))
        self._leftovers.clear()
        complete = [
            Retained(found, state is State.COMPLETE) for found, state in states.items() if state is not State.INCOMPLETE
        ]
        for found in superfluous(complete, step=step, limit=limit, best=best):
            self.remove(name_of(found))

    def _state(self, name: str) -> State:
        if not self._fetch(name, MANIFEST_NAME):
            return State.INCOMPLETE
        manifest = read_manifest(self.path / name)
        if manifest is None:
            return State.DAMAGED
        check_owner(self.uri, manifest.job, self._config.job)
        return State.UNUSABLE if self._fetch(name, _MARK_NAME) else State.COMPLETE

    def _fetch(self, name: str, file: str) -> bool:
        """Bring a file of a checkpoint to this machine; False where there is none."""
        self._folder.fetch(f"{name}/{file}")
        return (self.path / name / file).is_file()

    def _move_into_place(self, name: str) -> None:
        target, replaced = self.path / name, self.drafts / f"replaced-{name}"
        shutil.rmtree(replaced, ignore_errors=True)
        if target.exists():
            target.rename(replaced)
        (self.drafts / name).rename(target)
        sync(self.path)
        shutil.rmtree(replaced, ignore_errors=True)


def name_of(step: int) -> str:
    """The folder of the checkpoint of a step."""
    return f"checkpoint-{step}"
