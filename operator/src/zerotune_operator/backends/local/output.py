"""Reads from the files of a run whether its result is complete, and which job made it."""

from __future__ import annotations

from pathlib import Path

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import OutputSummary
from zerotune_operator.backends.complete_output import own_manifest, summary_of
from zerotune_operator.backends.local.layout import resolve
from zerotune_operator.backends.local.remote_files import read_remote, remote_sizes
from zerotune_operator.backends.output_owner import require_own
from zerotune_trainer.errors import InputMissingError
from zerotune_trainer.manifest import MANIFEST_NAME, OWNER_NAME, Manifest, missing_files, sizes_in


def complete_output(uri: str, uid: str, config_digest: str) -> OutputSummary | None:
    """The result at `uri`, where all of it is there and the job `uid` made it with this configuration.

    Raises:
        ConfigurationError, TemporaryError: its store rejects or does not answer, so that nobody knows.
    """
    manifest = own_manifest(_read(uri, MANIFEST_NAME), uid, config_digest)
    if manifest is None or missing_files(manifest, _sizes(uri, manifest)):
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


def _sizes(uri: str, manifest: Manifest) -> dict[str, int]:
    """Bytes of the files that are there of those that a manifest names, by their paths."""
    if not uri.startswith("file://"):
        return remote_sizes(uri)
    return sizes_in(_folder(uri), manifest)


def _folder(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))
