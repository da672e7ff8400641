"""Whose a folder is: a job writes only where nothing is, or where it has written before."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError

from zerotune_trainer.config import InferConfig, JobIdentity, TrainConfig
from zerotune_trainer.errors import PLACE_IS_FULL, ConfigurationError, InputMissingError, TemporaryError
from zerotune_trainer.manifest import MANIFEST_NAME, Manifest, read_manifest
from zerotune_trainer.storage import Folder, locate, open_folder, read_bytes

OWNER_NAME = ".zerotune-job.json"
"""Says which job a folder belongs to; written before anything else."""

_REFUSED = {
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


def complete_manifest(output: Folder, config: TrainConfig | InferConfig) -> Manifest | None:
    """The manifest of the output folder, where that holds this job's whole result.

    Raises:
        ConfigurationError: it holds the result of another job, or of this one with another configuration.
    """
    fetch(output, MANIFEST_NAME)
    manifest = read_manifest(output.local)
    if manifest is None:
        return None
    check_owner(output.uri, manifest.job, config.job)
    check_digest(output, manifest.config_digest, config)
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


def claim(folder: Folder, job: JobIdentity) -> None:
    """Make a folder the job's own, before anything is written to it. Rank 0 calls this.

    Raises:
        ConfigurationError: another job's folder, or files that no job has written, or a folder that cannot be written.
        TemporaryError: the disk is full, or the volume does not answer.
    """
    with writing_errors(folder.uri):
        fetch(folder, OWNER_NAME)
        owner = read_owner(folder.local)
        if owner is not None:
            check_owner(folder.uri, owner, job)
            return
        foreign = sorted(child for child in folder.children() if not child.startswith("."))
        if foreign:
            raise ConfigurationError(
                f"{folder.uri} holds files that no job has written: {', '.join(foreign[:5])}", _ANOTHER_FOLDER
            )
        (folder.local / OWNER_NAME).write_text(job.model_dump_json(by_alias=True) + "\n")
        folder.push([OWNER_NAME])


def fetch(folder: Folder, relative: str) -> None:
    """Bring one file of a folder on S3 to its staging folder; one that is not there does not stay there either."""
    if folder.location.local is None:
        path = folder.local / relative
        try:
            content = read_bytes(f"{folder.uri}/{relative}")
        except InputMissingError:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read_owner(folder: Path) -> JobIdentity | None:
    """The job that a folder belongs to, by its mark or its manifest; None where it has neither.

    Raises:
        ConfigurationError: the mark cannot be read.
    """
    path = folder / OWNER_NAME
    if not path.is_file():
        manifest = read_manifest(folder)
        return manifest.job if manifest else None
    try:
        return JobIdentity.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {error}", _ANOTHER_FOLDER) from error


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
        if error.errno in _REFUSED:
            raise ConfigurationError(
                f"{place} cannot be written: {error}", "give a folder that this user may write"
            ) from error
        remedy = _MAKE_SPACE if error.errno in PLACE_IS_FULL else _SEE_VOLUME
        raise TemporaryError(f"{place} cannot be written: {error}", remedy) from error
