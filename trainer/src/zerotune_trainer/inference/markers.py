"""What says that a shard is whole: its marker, which is written after its output file and names size and sha256.

A marker alone proves nothing: its file may be missing, cut off, or another writer's. A shard counts as done where its
marker is of this plan and its file is what the marker says, bytes compared.
"""

from __future__ import annotations

import hashlib

from pydantic import ValidationError

from zerotune_trainer import storage
from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.generation import InferenceOutputFormat
from zerotune_trainer.errors import InputMissingError
from zerotune_trainer.inference.engine import BatchFigures
from zerotune_trainer.inference.plan import WorkPlan
from zerotune_trainer.manifest import ManifestFile
from zerotune_trainer.storage import Folder

_BLOCK = 1 << 20


class Marker(Settings):
    """A shard that is done."""

    plan: str
    """Digest of the plan that it is a shard of."""
    attempt: int
    """The attempt that wrote it."""
    shard: int
    rank: int
    file: ManifestFile
    records: int
    failed_records: int
    """Records that have an `error` instead of a text."""
    generation_column: str
    """The name that the texts have in the file."""
    error_column: str
    batches: list[BatchFigures]

    def is_named_as(self, names: InferenceOutputFormat) -> bool:
        """Whether the file was made with these names of columns: with others other records may be errors."""
        return (self.generation_column, self.error_column) == (names.generation_column, names.error_column)


def verify_shard(output: Folder, plan: WorkPlan, shard: int, names: InferenceOutputFormat) -> Marker | str:
    """The marker of a shard that is whole and has these names of columns; else what is wrong with the shard, as text.

    Raises:
        ConfigurationError, TemporaryError: the store rejects or does not answer, so that nobody knows.
    """
    marker = written_shard(output, plan, shard)
    if isinstance(marker, Marker) and not marker.is_named_as(names):
        return f"{marker.file.path} has other names of columns"
    return marker


def written_shard(output: Folder, plan: WorkPlan, shard: int) -> Marker | str:
    """As `verify_shard`, whatever names its columns have."""
    name = plan.marker_name(shard)
    found = output.read(name)
    if found is None:
        return f"{name} is missing"
    try:
        marker = Marker.model_validate_json(found.content)
    except ValidationError:
        return f"{name} cannot be read"
    if marker.plan != plan.digest:
        return f"{name} is of another plan"
    if (marker.shard, marker.file.path, marker.records) != (shard, plan.file_name(shard), len(plan.records_of(shard))):
        return f"{name} is of another shard"
    return difference(output, marker.file) or marker


def difference(output: Folder, expected: ManifestFile) -> str:
    """What does not agree between a file of the output folder and what its marker has; empty where all does.

    Raises:
        ConfigurationError, TemporaryError: the store rejects or does not answer.
    """
    try:
        found = measure(output, expected.path)
    except InputMissingError:
        return f"{expected.path} is missing"
    if found.size != expected.size:
        return f"{expected.path} has {found.size} bytes, {expected.size} were written"
    return "" if found.sha256 == expected.sha256 else f"{expected.path} has changed since it was written"


def measure(output: Folder, path: str) -> ManifestFile:
    """Size and sha256 of a file as it is where the results belong.

    Raises:
        InputMissingError: it is not there.
        ConfigurationError, TemporaryError: the store rejects or does not answer.
    """
    uri, digest, size = output.location.below(path).uri, hashlib.sha256(), 0
    with storage.store_errors(uri), storage.open_input(uri) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return ManifestFile(path=path, size=size, sha256=digest.hexdigest())
