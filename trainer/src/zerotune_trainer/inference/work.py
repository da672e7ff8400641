"""The work of an InferenceJob and how much of it is done: complete-or-absent files in `work/` of the output folder.

    work/plan.json              what there is to do: written once, before anything else
    part-000007.jsonl           the output of shard 7
    work/part-000007.json       says that it is whole: written after it, read by whoever starts again

A shard is a run of neighbouring records and becomes one output file. Shards are numbered in input order: the
files in the order of their names hold every record once, in order, whoever wrote them. When the manifest is there,
`work/` is gone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.jobs import JobIdentity
from zerotune_trainer.errors import DataError
from zerotune_trainer.manifest import ManifestFile

WORK_NAME = "work"
PLAN_NAME = f"{WORK_NAME}/plan.json"
SHARDS_PER_RANK = 4
"""With fewer shards than this a rank, the last one leaves the others waiting for long."""


class InputFile(Settings):
    """An input file as the job found it."""

    uri: str
    size: int
    version: str
    """Changes when the content does."""
    records: int


class WorkPlan(Settings):
    """What there is to do. Fixed when the job first starts: a restart on more or fewer ranks keeps the shards."""

    job: JobIdentity
    config_digest: str
    files: list[InputFile]
    records: int = Field(ge=0)
    records_per_shard: int = Field(ge=1)
    suffix: str
    """`.jsonl` or `.parquet`."""
    columns: str | None = None
    """Arrow schema of the input's columns, serialized and in base64, where the output is parquet."""

    @property
    def shards(self) -> range:
        """The numbers of all shards."""
        return range(math.ceil(self.records / self.records_per_shard))

    def records_of(self, shard: int) -> range:
        """The global numbers of a shard's records."""
        start = shard * self.records_per_shard
        return range(start, min(start + self.records_per_shard, self.records))

    def file_name(self, shard: int) -> str:
        """The output file of a shard. Names sort as the shards do."""
        return f"part-{shard:0{self._digits}}{self.suffix}"

    def marker_name(self, shard: int) -> str:
        """The file that says that a shard is done."""
        return f"{WORK_NAME}/part-{shard:0{self._digits}}.json"

    @property
    def _digits(self) -> int:
        return max(6, len(str(len(self.shards) - 1)))


class BatchFigures(Settings):
    """What one batch took."""

    records: int
    prompt_tokens: int
    new_tokens: int
    seconds: float


class CompletedShard(Settings):
    """A shard that is done."""

    shard: int
    rank: int
    file: ManifestFile
    records: int
    failed_records: int
    batches: list[BatchFigures]


@dataclass(frozen=True)
class Work:
    """The plan and the shards of it that earlier attempts have done."""

    plan: WorkPlan
    done: list[CompletedShard]

    @property
    def remaining(self) -> list[int]:
        """The shards that are still to do, in order."""
        done = {shard.shard for shard in self.done}
        return [number for number in self.plan.shards if number not in done]

    @property
    def done_records(self) -> int:
        """Records of the shards that are done."""
        return sum(shard.records for shard in self.done)

    @property
    def failed_records(self) -> int:
        """Those of them that have an `error`."""
        return sum(shard.failed_records for shard in self.done)


def shard_size(records: int, ranks: int, batch_size: int, rows_per_file: int) -> int:
    """Records of a shard: at most `rows_per_file`, fewer where that leaves ranks idle, but no less than a batch.

    A smaller share is rounded up to whole batches.
    """
    if ranks == 1:
        return rows_per_file
    share = math.ceil(records / (ranks * SHARDS_PER_RANK))
    return min(rows_per_file, max(1, math.ceil(share / batch_size)) * batch_size)


def read_plan(folder: Path) -> WorkPlan | None:
    """The plan of a folder, None where there is none.

    Raises:
        DataError: `work/plan.json` is not a plan.
    """
    path = folder / PLAN_NAME
    if not path.is_file():
        return None
    try:
        return WorkPlan.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{path}: {error}", "another version of zerotune wrote it: use a new output folder") from error


def completed_shards(folder: Path, plan: WorkPlan) -> list[CompletedShard]:
    """The shards that are done, in order."""
    paths = [folder / plan.marker_name(shard) for shard in plan.shards]
    return [CompletedShard.model_validate_json(path.read_bytes()) for path in paths if path.is_file()]
