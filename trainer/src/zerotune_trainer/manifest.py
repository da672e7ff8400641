"""The completion marker: `manifest.json`, written last, names every file of a folder with size and sha256. Torch-free.

A folder without one is not complete, whatever it holds. Checkpoints and outputs both have one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from zerotune_trainer.atomic import sync
from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.jobs import JobIdentity
from zerotune_trainer.counting import counted
from zerotune_trainer.progress import Completion, Progress

MANIFEST_NAME = "manifest.json"
OWNER_NAME = ".zerotune-job.json"
"""Says which job and attempt a folder belongs to; written before anything else."""
METRICS_NAME = "metrics.jsonl"
"""What happened step by step, or batch by batch."""
SCRIPT_METRICS_NAME, SCRIPT_RESULTS_NAME = "zerotune-metrics.jsonl", "zerotune-results.json"
"""The same, and its figures, beside what a script of the user's writes, who may have files of the usual names."""


class ManifestFile(Settings):
    """A file: its path below the folder (with `/`), size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


class Manifest(Settings):
    """What a complete folder holds."""

    job: JobIdentity
    config_digest: str
    step: int
    """Optimizer steps, or records."""
    files: list[ManifestFile]
    data_digest: str | None = None
    """Of the rows that a checkpoint was written over."""
    plugin_digest: str | None = None
    """Of the user's plug-in, where it changes how rows are trained on."""
    changes: list[str] = Field(default=[])
    """What has changed in the course of the training that a checkpoint is of, a sentence each."""
    error_column: str | None = None
    """Column by which a record of an InferenceJob says why it has no text."""

    def encoded(self) -> bytes:
        """What `manifest.json` holds."""
        return self.model_dump_json(by_alias=True, indent=2).encode() + b"\n"


def completion(uri: str, manifest: Manifest, progress: Progress) -> Completion:
    """What a rank says of the result at `uri` once that is complete."""
    return Completion(
        job_uid=manifest.job.uid,
        config_digest=manifest.config_digest,
        uri=uri,
        files=len(manifest.files),
        bytes=sum(file.size for file in manifest.files),
        progress=progress,
    )


def describe(folder: Path, paths: Iterable[Path]) -> list[ManifestFile]:
    """Measure files below `folder`, sorted by path, once they have reached the disk: a manifest may name them then."""
    ordered = sorted(paths)
    for path in ordered:
        sync(path)
    return [_describe(folder, path) for path in ordered]


def files_of(folder: Path) -> list[Path]:
    """Every file below `folder` but its manifest and hidden files."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and path != folder / MANIFEST_NAME and not path.name.startswith(".")
    ]


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where it has none or one that cannot be read, which makes it incomplete."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError:
        return None


def differences(folder: Path, manifest: Manifest) -> list[str]:
    """What does not agree with the manifest, a sentence each: missing files, other sizes, other content."""
    return [text for entry in manifest.files if (text := _difference(folder, entry))]


def sizes_in(folder: Path, manifest: Manifest) -> dict[str, int]:
    """Bytes of the files that a manifest names and that are there, by their paths below the folder."""
    paths = {entry.path: folder / entry.path for entry in manifest.files}
    return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}


def missing_files(manifest: Manifest, sizes: Mapping[str, int]) -> list[str]:
    """The files that a manifest names and that are not there, or have another size.

    Args:
        manifest: Of a folder.
        sizes: Bytes of the files that are there, by their paths below it.
    """
    return [entry.path for entry in manifest.files if sizes.get(entry.path) != entry.size]


def _describe(folder: Path, path: Path) -> ManifestFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ManifestFile(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest)


def _difference(folder: Path, entry: ManifestFile) -> str:
    path = folder / entry.path
    if not path.is_file():
        return f"{entry.path} is missing"
    if path.stat().st_size != entry.size:
        return f"{entry.path} has {counted(path.stat().st_size, 'byte')}, the manifest says {entry.size}"
    if _describe(folder, path).sha256 != entry.sha256:
        return f"{entry.path} has changed: its sha256 is not that of the manifest"
    return ""
