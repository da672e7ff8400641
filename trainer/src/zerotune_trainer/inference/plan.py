"""The plan of an InferenceJob: which records become which output file. Decided once, kept in the output folder.

    work/plan.json                     what there is to do: written once, before anything else
    work/part-000007.partial-0001.json what has been generated of shard 7, see `partial.py`
    part-000007.jsonl                  the output of shard 7
    work/part-000007.json              its marker, see `markers.py`: written after it
    work/claim-000007                  of several replicas, the one that works on it, see `claims.py`

A shard is a run of neighbouring records and becomes one output file. Shards are numbered in input order, so the files
in the order of their names hold every record once, in order, whoever wrote them. When the manifest is there, `work/` is
deleted.
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property

from pydantic import Field, ValidationError

from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.jobs import JobIdentity
from zerotune_trainer.errors import DataError
from zerotune_trainer.inference.marks import Marks
from zerotune_trainer.storage import Folder

WORK_NAME = "work"
PLAN_NAME = f"{WORK_NAME}/plan.json"
FILE_PREFIX = "part-"
CLAIM_PREFIX = f"{WORK_NAME}/claim-"
HEARTBEAT_PREFIX = f"{WORK_NAME}/replica-"
SHARDS_PER_RANK = 4
"""With fewer shards than this a rank, the last one leaves the others waiting for long."""


class InputFile(Settings):
    """An input file as the job found it."""

    uri: str
    size: int
    version: str
    """Changes when the content does."""
    records: int
    marks: Marks = Marks()


class WorkPlan(Settings):
    """What there is to do. Fixed when the job first starts: a restart on more or fewer ranks keeps the shards."""

    job: JobIdentity
    config_digest: str
    """Of what determines the texts: all but the names of the output's columns."""
    names: list[str]
    """Those names, of which no record has a column."""
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

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the plan. Markers carry it: one of another plan says nothing of this one's shards."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The plan as `plan.json` holds it."""
        return self.model_dump_json(by_alias=True, indent=2)

    def file_name(self, shard: int) -> str:
        """The output file of a shard. Names sort as the shards do."""
        return f"{FILE_PREFIX}{shard:0{self._digits}}{self.suffix}"

    def marker_name(self, shard: int) -> str:
        """The file that says that a shard is whole."""
        return f"{WORK_NAME}/{FILE_PREFIX}{shard:0{self._digits}}.json"

    def claim_name(self, shard: int) -> str:
        """The file that says which replica works on a shard."""
        return f"{CLAIM_PREFIX}{shard:0{self._digits}}"

    def partial_name(self, shard: int, number: int) -> str:
        """The file that keeps what has been generated of a shard since its last such file, from 1."""
        return f"{WORK_NAME}/{FILE_PREFIX}{shard:0{self._digits}}.partial-{number:04}.json"

    @property
    def _digits(self) -> int:
        return max(6, len(str(len(self.shards) - 1)))


def shard_size(records: int, ranks: int, batch_size: int, rows_per_file: int) -> int:
    """Records of a shard: at most `rows_per_file`, fewer where that leaves ranks idle, but no less than a batch.

    A smaller share is rounded up to whole batches.
    """
    if ranks == 1:
        return rows_per_file
    share = math.ceil(records / (ranks * SHARDS_PER_RANK))
    return min(rows_per_file, max(1, math.ceil(share / batch_size)) * batch_size)


def read_plan(output: Folder) -> WorkPlan | None:
    """The plan of an output folder, None where there is none.

    Raises:
        DataError: `work/plan.json` is not a plan.
    """
    found = output.read(PLAN_NAME)
    if found is None:
        return None
    try:
        return WorkPlan.model_validate_json(found.content)
    except ValidationError as error:
        raise DataError(
            f"{output.uri}/{PLAN_NAME}: {error}", "another version of zerotune wrote it: use a new output folder"
        ) from error
