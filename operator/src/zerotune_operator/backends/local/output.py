"""Reads from the files of a run whether its result is complete, and which job made it."""

from __future__ import annotations

from pathlib import Path

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import OutputSummary
from zerotune_operator.backends.complete_output import own_manifest, summary_of
from zerotune_operator.backends.local.layout import resolve
from zerotune_operator.backends.local.remote_files import read_remote
from zerotune_operator.backends.output_owner import require_own
from zerotune_trainer.errors import InputMissingError
from zerotune_trainer.manifest import MANIFEST_NAME, OWNER_NAME, ManifestFile


def complete_output(uri: str, uid: str, config_digest: str) -> OutputSummary | None:
    """The result at `uri`, where all of it is there and the job `uid` made it with this configuration.

    Raises:
        ConfigurationError, TemporaryError: its store rejects or does not answer, so that nobody knows.
    """
    manifest = own_manifest(_read(uri, MANIFEST_NAME), uid, config_digest)
    if manifest is None or not all(_is_there(uri, entry) for entry in manifest.files):
        return None
    return summary_of(uri, manifest)


def require_own_output(job: Job) -> None:
    """See that the output is no other job's, where the spec names it; else it is in the job's folder.

    Raises:
        ConfigurationError: it is, or its store rejects the question.
        TemporaryError: its store does not answer.
    """
    if (given := job.spec.output.uri) is not None:
        uri = resolve(given)
        require_own(uri, _read(uri, OWNER_NAME), job)


def _read(uri: str, name: str) -> bytes | None:
    if not uri.startswith("file://"):
        try:
            return read_remote(f"{uri.rstrip('/')}/{name}")
        except InputMissingError:
            return None
    path = _folder(uri) / name
    return path.read_bytes() if path.is_file() else None


def _is_there(uri: str, entry: ManifestFile) -> bool:
    """Whether a file has its size; what a store holds is believed."""
    if not uri.startswith("file://"):
        return True
    path = _folder(uri) / entry.path
    return path.is_file() and path.stat().st_size == entry.size


def _folder(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))
