"""Whose a folder is: a job writes only where nothing is, or where it has written before, and its latest attempt only.

The owner file names the job and the attempt. Rank 0 acquires a folder before anything else is written there; every rank
that marks something as whole (a marker, a checkpoint's manifest, the manifest) verifies before that the
folder is its attempt's still. So an attempt that goes on somewhere after the next one began, such as on a node that was
cut off, completes nothing any more. What it writes meanwhile are files that no manifest of the later attempt relies on
without having measured or written them itself.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError

from zerotune_trainer.atomic import remove_drafts
from zerotune_trainer.config import InferConfig, JobIdentity, TrainConfig
from zerotune_trainer.errors import PLACE_IS_FULL, ConfigurationError, SupersededError, TemporaryError
from zerotune_trainer.manifest import MANIFEST_NAME, OWNER_NAME, Manifest, read_manifest
from zerotune_trainer.storage import Folder, Versioned, locate, open_folder

_TRIES = 100
"""How often an attempt may find that another process wrote the owner file between its reading and its writing."""

_REJECTED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}
"""What stays as it is until a person changes it."""
_SEE_VOLUME = "see that the volume is mounted and answers; the job goes on from what is whole"
_MAKE_SPACE = "see that the disk is not full; the job goes on from what is whole"
_ARCHIVE_WRITER = re.compile(r"PytorchStreamWriter|inline_container\.cc|iostream error")
_ANOTHER_FOLDER = "give this job a folder of its own, or move away what is there"


def open_output(uri: str, cache_dir: Path) -> Folder:
    """The results folder at a URI, as `storage.open_folder`, made where it is not there.

    Raises:
        ConfigurationError: it cannot be made.
        TemporaryError: the disk is full, or the volume does not answer.
    """
    local = locate(uri).local
    if local is not None:
        with writing_errors(uri):
            local.mkdir(parents=True, exist_ok=True)
    return open_folder(uri, cache_dir)


def complete_manifest(
    output: Folder, config: TrainConfig | InferConfig, plugin_digest: str | None = None
) -> Manifest | None:
    """The manifest of the output folder, where that holds this job's whole result.

    Args:
        output: The folder.
        config: The job.
        plugin_digest: Of its plug-in, as it is now.

    Raises:
        ConfigurationError: it holds the result of another job, or of this one with another configuration.
    """
    output.fetch(MANIFEST_NAME)
    manifest = read_manifest(output.local)
    if manifest is None:
        return None
    check_owner(output.uri, manifest.job, config.job)
    check_digest(output, manifest.config_digest, config)
    if manifest.plugin_digest != plugin_digest:
        raise ConfigurationError(
            f"{output.uri} holds the result of {config.job.name} with another content of its plug-in",
            "give the changed job another name or another output folder",
        )
    return manifest


def check_digest(output: Folder, digest: str, config: TrainConfig | InferConfig) -> None:
    """See that what the output folder holds was made with this configuration.

    Raises:
        ConfigurationError: it was made with another.
    """
    if digest != config.digest():
        raise ConfigurationError(
            f"{output.uri} holds the result of {config.job.name} with another configuration",
            "give the changed job another name or another output folder",
        )


@dataclass(frozen=True)
class Ownership:
    """What an attempt holds of a results folder. Every rank has one; rank 0 acquires it for all.

    Args:
        folder: The folder.
        job: The job and its attempt.
    """

    folder: Folder
    job: JobIdentity

    def acquire(self) -> bool:
        """Make the folder the attempt's own, before anything is written to it. Rank 0 calls this.

        Of two jobs that acquire a folder at once, one succeeds; of two attempts at a job, the later one. The replicas
        of an attempt have the folder together.

        Returns:
            Whether it was not the attempt's own before.

        Raises:
            ConfigurationError: another job's folder, or files that no job has written, or it cannot be written.
            SupersededError: a later attempt has it.
            TemporaryError: the disk is full, or the volume or store does not answer.
        """
        with writing_errors(self.folder.uri):
            for _ in range(_TRIES):
                acquired = self._try_to_acquire()
                if acquired is not None:
                    return acquired
        raise TemporaryError(
            f"{self.folder.uri}: {OWNER_NAME} was written by others {_TRIES} times in a row",
            "see which other attempts or jobs run on this folder",
        )

    def verify(self) -> None:
        """See that the folder is the attempt's still. Called before anything is marked as whole; reads one small file.

        Raises:
            SupersededError: a later attempt has it: this one must write no more.
            ConfigurationError: another job has it.
            TemporaryError: that is unknown, for the owner file is deleted, or the volume or store does not answer.
        """
        with writing_errors(self.folder.uri):
            found = self.folder.read(OWNER_NAME)
            if found is None and not self.folder.await_files([OWNER_NAME]):
                found = self.folder.read(OWNER_NAME)
        owner = None if found is None else _parse(found.content)
        if owner is None or owner.attempt < self.job.attempt:
            state = "is not there" if found is None else f"holds {found.content[:200]!r}"
            raise TemporaryError(f"{self.folder.uri}/{OWNER_NAME} {state}: the folder's owner is unknown", _SEE_VOLUME)
        self._check(owner)

    def _try_to_acquire(self) -> bool | None:
        """As `acquire`; None: another process wrote the owner file meanwhile."""
        found = self.folder.read(OWNER_NAME)
        owner = self._written_by() if found is None else _parse(found.content)
        if owner is None:
            self._check_nobodys(found)
        else:
            self._check(owner)
        content = (self.job.model_dump_json(by_alias=True) + "\n").encode()
        if found is not None and found.content == content:
            return False
        if not self.folder.exchange(OWNER_NAME, content, found and found.version):
            return None
        # Whoever left a draft belongs to an attempt that is over: one that still runs may write no more.
        remove_drafts(self.folder.local)
        return True

    def _written_by(self) -> JobIdentity | None:
        """The job that wrote the manifest of a folder without an owner file."""
        self.folder.fetch(MANIFEST_NAME)
        manifest = read_manifest(self.folder.local)
        return manifest.job if manifest else None

    def _check(self, owner: JobIdentity) -> None:
        check_owner(self.folder.uri, owner, self.job)
        if owner.attempt > self.job.attempt:
            raise SupersededError(
                f"{self.folder.uri} belongs to attempt {owner.attempt} of {self.job.name} by now, this is attempt "
                f"{self.job.attempt}",
                "nothing is to be done: see the later attempt",
            )

    def _check_nobodys(self, found: Versioned | None) -> None:
        foreign = sorted(child for child in self.folder.children() if not child.startswith("."))
        if foreign:
            unreadable = f", and its {OWNER_NAME} cannot be read" if found else ""
            raise ConfigurationError(
                f"{self.folder.uri} holds files that no job has written: {', '.join(foreign[:5])}{unreadable}",
                _ANOTHER_FOLDER,
            )


def _parse(content: bytes) -> JobIdentity | None:
    """The owner; None where a crash left no more than a part of the file."""
    try:
        return JobIdentity.model_validate_json(content)
    except ValidationError:
        return None


def check_owner(place: str, owner: JobIdentity, job: JobIdentity) -> None:
    """See that a folder is the job's own.

    Raises:
        ConfigurationError: it is another's.
    """
    if (owner.kind, owner.name, owner.uid) != (job.kind, job.name, job.uid):
        raise ConfigurationError(
            f"{place} belongs to {owner.kind} {owner.name} ({owner.uid}), this is {job.kind} {job.name} ({job.uid})",
            _ANOTHER_FOLDER,
        )


@contextmanager
def writing_errors(place: str) -> Iterator[None]:
    """Say what an error while writing to `place` means.

    Raises:
        TemporaryError: the disk is full, or the volume does not answer.
        ConfigurationError: the place is none that this user may write to.
    """
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        # Both hide errno: torch.save in the writer of its archive, safetensors in its text.
        if isinstance(error, RuntimeError) and not _ARCHIVE_WRITER.search(str(error)):
            raise
        raise TemporaryError(f"{place} cannot be written: {str(error).splitlines()[0]}", _MAKE_SPACE) from error
    except OSError as error:
        if error.errno in _REJECTED:
            raise ConfigurationError(
                f"{place} cannot be written: {error}", "give a folder that this user may write"
            ) from error
        remedy = _MAKE_SPACE if error.errno in PLACE_IS_FULL else _SEE_VOLUME
        raise TemporaryError(f"{place} cannot be written: {error}", remedy) from error
