"""The `metrics.jsonl` of an InferenceJob: the lines of all shards, written piece by piece, for they may be millions."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from zerotune_trainer.inference.markers import BatchRecord, WholeShard, read_whole
from zerotune_trainer.inference.plan import WorkPlan
from zerotune_trainer.manifest import METRICS_NAME, ManifestFile
from zerotune_trainer.reporting.inference_results import FileFigures
from zerotune_trainer.reporting.record_outcomes import ErrorClasses, ShownRecord
from zerotune_trainer.storage import Folder


@dataclass
class MetricsFile:
    """The file of a job, and what its lines and the markers come to once `pieces` has come to its end.

    Args:
        output: The output folder.
        plan: The job's plan.
        shards: All of them, in order.
    """

    output: Folder
    plan: WorkPlan
    shards: Sequence[WholeShard]
    seconds: array[float] = field(default_factory=lambda: array("d"))
    """Of each batch."""
    files: list[FileFigures] = field(default_factory=list)
    errors: ErrorClasses = field(default_factory=ErrorClasses)
    shown: list[ShownRecord] = field(default_factory=list)
    """Records that the report shows."""
    _size: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def pieces(self) -> Iterator[bytes]:
        """Its content, a piece for each shard. What it comes to is counted from the start each time."""
        self.seconds, self.files, self.errors, self.shown = array("d"), [], ErrorClasses(), []
        self._size, self._digest = 0, hashlib.sha256()
        for shard in self.shards:
            marker, lines = read_whole(self.output, self.plan.marker_name(shard.shard))
            self.errors.add(marker.errors)
            self.shown.extend(marker.shown)
            self._count(shard.records, [BatchRecord.model_validate_json(line) for line in lines])
            piece = b"".join(lines)
            self._size += len(piece)
            self._digest.update(piece)
            yield piece

    def described(self) -> ManifestFile:
        """What the manifest says of it."""
        return ManifestFile(path=METRICS_NAME, size=self._size, sha256=self._digest.hexdigest())

    def _count(self, records: int, batches: Sequence[BatchRecord]) -> None:
        self.seconds.extend(batch.seconds for batch in batches)
        self.files.append(
            FileFigures(
                records=records,
                prompt_tokens=sum(batch.prompt_tokens for batch in batches),
                new_tokens=sum(batch.new_tokens for batch in batches),
                seconds=sum(batch.seconds for batch in batches),
            )
        )
