"""The `metrics.jsonl` of an InferenceJob: the lines of all shards, written piece by piece, for they may be millions."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from zerotune_trainer.inference.markers import BatchRecord, WholeShard, batch_lines
from zerotune_trainer.inference.plan import WorkPlan
from zerotune_trainer.manifest import METRICS_NAME, ManifestFile
from zerotune_trainer.storage import Folder


@dataclass
class MetricsFile:
    """The file of a job, and what its lines add up to once `pieces` has come to its end.

    Args:
        output: The output folder.
        plan: The job's plan.
        shards: All of them, in order.
    """

    output: Folder
    plan: WorkPlan
    shards: Sequence[WholeShard]
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: array[float] = field(default_factory=lambda: array("d"))
    """Of each batch."""
    _size: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def pieces(self) -> Iterator[bytes]:
        """Its content, a piece for each shard."""
        for shard in self.shards:
            lines = batch_lines(self.output, self.plan.marker_name(shard.shard))
            for line in lines:
                self._count(BatchRecord.model_validate_json(line))
            piece = b"".join(lines)
            self._size += len(piece)
            self._digest.update(piece)
            yield piece

    def described(self) -> ManifestFile:
        """What the manifest says of it."""
        return ManifestFile(path=METRICS_NAME, size=self._size, sha256=self._digest.hexdigest())

    def _count(self, batch: BatchRecord) -> None:
        self.prompt_tokens += batch.prompt_tokens
        self.new_tokens += batch.new_tokens
        self.seconds.append(batch.seconds)
