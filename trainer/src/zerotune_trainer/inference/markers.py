"""What says that a shard is whole: its marker, which is written after its output file and names size and sha256.

Below it stand the lines that the shard adds to `metrics.jsonl`, one for each batch. They are many, and nobody needs
them in memory. A marker alone proves nothing: its file may be missing, cut off, or another writer's. A shard counts as
done where its marker is of this plan and its file is what the marker says: of that size when an attempt starts, so that
it need not read what millions of records have become; bytes compared before the manifest is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydantic import Field, ValidationError

from zerotune_trainer import storage
from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.generation import InferenceOutputFormat
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import InputMissingError, TemporaryError
from zerotune_trainer.inference.engine import BatchFigures
from zerotune_trainer.inference.plan import WorkPlan
from zerotune_trainer.inference.sealed import seal, unseal
from zerotune_trainer.manifest import ManifestFile
from zerotune_trainer.reporting.record_outcomes import ShownRecord
from zerotune_trainer.storage import Folder

_BLOCK = 1 << 20
_FIGURES = set(BatchFigures.model_fields)


class BatchRecord(BatchFigures):
    """A line of an InferenceJob's `metrics.jsonl`: what one batch took, in the order of the output."""

    part: str
    rank: int
    tokens_per_second: float


class WholeShard(NamedTuple):
    """What is kept in memory of a shard that is whole: there may be tens of thousands."""

    shard: int
    records: int
    failed_records: int
    size: int
    """Bytes of its file."""
    sha256: str
    """Of its file, in hex."""
    attempt: int
    """The attempt that wrote it."""


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
    errors: dict[str, int] = Field(default={})
    """Classes of errors of its records, see `reporting.record_outcomes`."""
    shown: list[ShownRecord] = Field(default=[])
    """Of the first shard: records that the report shows."""

    @property
    def whole(self) -> WholeShard:
        """What the result is made of."""
        return WholeShard(self.shard, self.records, self.failed_records, self.file.size, self.file.sha256, self.attempt)

    def encoded(self, batches: Sequence[BatchFigures]) -> bytes:
        """The marker's file.

        Args:
            batches: What the batches of the shard took.
        """
        lines: list[Settings] = [self, *(self._line(batch) for batch in batches)]
        return seal("".join(line.model_dump_json(by_alias=True) + "\n" for line in lines).encode())

    def _line(self, batch: BatchFigures) -> BatchRecord:
        pace = batch.new_tokens / batch.seconds
        return BatchRecord(
            part=self.file.path, rank=self.rank, tokens_per_second=pace, **batch.model_dump(include=_FIGURES)
        )

    def is_named_as(self, names: InferenceOutputFormat) -> bool:
        """Whether the file was made with these names of columns: with others other records may be errors."""
        return (self.generation_column, self.error_column) == (names.generation_column, names.error_column)


Difference = Callable[[Folder, ManifestFile], str]
"""What does not agree between a file of the output folder and what its marker has; empty where all does.

Raises:
    ConfigurationError, TemporaryError: the store rejects or does not answer.
"""


def size_difference(output: Folder, expected: ManifestFile) -> str:
    """See Difference: by size alone, which reads no file."""
    found = storage.find_file(output.location.below(expected.path))
    if found is None:
        return f"{expected.path} is missing"
    return _size_difference(found.size, expected)


def content_difference(output: Folder, expected: ManifestFile) -> str:
    """See Difference: byte by byte."""
    try:
        found = measure(output, expected.path)
    except InputMissingError:
        return f"{expected.path} is missing"
    if found.size == expected.size and found.sha256 != expected.sha256:
        return f"{expected.path} has changed since it was written"
    return _size_difference(found.size, expected)


def _size_difference(size: int, expected: ManifestFile) -> str:
    return "" if size == expected.size else f"{expected.path} has {counted(size, 'byte')}, {expected.size} were written"


def verify_shard(
    output: Folder, plan: WorkPlan, shard: int, names: InferenceOutputFormat, difference: Difference
) -> Marker | str:
    """The marker of a shard that is whole and has these names of columns; else what is wrong with the shard, as text.

    Args:
        output: The output folder.
        plan: The job's plan.
        shard: The shard.
        names: The names.
        difference: How closely to look at its file.

    Raises:
        ConfigurationError, TemporaryError: the store rejects or does not answer, so that nobody knows.
    """
    marker = written_shard(output, plan, shard, difference)
    if isinstance(marker, Marker) and not marker.is_named_as(names):
        return f"{marker.file.path} has other names of columns"
    return marker


def written_shard(
    output: Folder, plan: WorkPlan, shard: int, difference: Difference = content_difference
) -> Marker | str:
    """As `verify_shard`, whatever names its columns have."""
    name = plan.marker_name(shard)
    found = output.read(name)
    if found is None:
        return f"{name} is missing"
    try:
        marker = Marker.model_validate_json((unseal(found.content) or b"").partition(b"\n")[0])
    except ValidationError:
        return f"{name} cannot be read"
    if marker.plan != plan.digest:
        return f"{name} is of another plan"
    if (marker.shard, marker.file.path, marker.records) != (shard, plan.file_name(shard), len(plan.records_of(shard))):
        return f"{name} is of another shard"
    return difference(output, marker.file) or marker


def read_whole(output: Folder, name: str) -> tuple[Marker, list[bytes]]:
    """The marker of a shard, and the lines of `metrics.jsonl` that stand below it, with their ends.

    Args:
        output: The output folder.
        name: The marker's file, which was there before.

    Raises:
        TemporaryError: it is not whole any more, or the store does not answer.
        ConfigurationError: the store rejects.
    """
    found = output.read(name)
    text = None if found is None else unseal(found.content)
    if text is None:
        raise TemporaryError(f"{output.uri}/{name} was whole and is not", "see what else writes to this folder")
    marker, *lines = text.splitlines(keepends=True)
    return Marker.model_validate_json(marker), lines


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
