"""The work of an InferenceJob and how much of it is done: complete-or-absent files in `work/` of the output folder.

    work/plan.json              what there is to do: written once, before anything else
    part-000007.jsonl           the output of chunk 7
    work/part-000007.json       says that it is whole: written after it, read by whoever starts again

A chunk is a run of neighbouring records and becomes one output file. Chunks are numbered in the order of the input, so
the files in the order of their names hold every record once, in order, whoever wrote them. When the manifest is there,
`work/` is gone.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.jobs import JobIdentity
from zerotune_trainer.errors import DataError
from zerotune_trainer.manifest import ManifestFile

WORK_NAME = "work"
PLAN_NAME = f"{WORK_NAME}/plan.json"
CHUNKS_PER_RANK = 4
"""With fewer chunks than this a rank, the last one leaves the others waiting for long."""


class InputFile(Settings):
    """An input file as the job found it."""

    uri: str
    size: int
    version: str
    """Changes when the content does."""
    records: int


class WorkPlan(Settings):
    """What there is to do. Fixed when the job first starts: a restart on more or fewer ranks keeps the chunks."""

    job: JobIdentity
    config_digest: str
    files: list[InputFile]
    records: int = Field(ge=0)
    records_per_chunk: int = Field(ge=1)
    suffix: str
    """`.jsonl` or `.parquet`."""
    columns: str | None = None
    """Arrow schema of the input's columns, serialized and in base64, where the output is parquet."""

    @property
    def chunks(self) -> range:
        """The numbers of all chunks."""
        return range(math.ceil(self.records / self.records_per_chunk))

    def records_of(self, chunk: int) -> range:
        """The global numbers of a chunk's records."""
        start = chunk * self.records_per_chunk
        return range(start, min(start + self.records_per_chunk, self.records))

    def part_name(self, chunk: int) -> str:
        """The output file of a chunk. Names sort as the chunks do."""
        return f"part-{chunk:0{self._digits}}{self.suffix}"

    def marker_name(self, chunk: int) -> str:
        """The file that says that a chunk is done."""
        return f"{WORK_NAME}/part-{chunk:0{self._digits}}.json"

    @property
    def _digits(self) -> int:
        return max(6, len(str(len(self.chunks) - 1)))


class BatchFigures(Settings):
    """What one batch took."""

    records: int
    prompt_tokens: int
    new_tokens: int
    seconds: float


class Part(Settings):
    """A chunk that is done."""

    chunk: int
    rank: int
    file: ManifestFile
    records: int
    failed_records: int
    batches: list[BatchFigures]


@dataclass(frozen=True)
class Work:
    """The plan and the chunks of it that earlier attempts have done."""

    plan: WorkPlan
    done: list[Part]

    @property
    def remaining(self) -> list[int]:
        """The chunks that are still to do, in order."""
        done = {part.chunk for part in self.done}
        return [chunk for chunk in self.plan.chunks if chunk not in done]

    @property
    def done_records(self) -> int:
        """Records of the chunks that are done."""
        return sum(part.records for part in self.done)

    @property
    def failed_records(self) -> int:
        """Those of them that have an `error`."""
        return sum(part.failed_records for part in self.done)


def chunk_size(records: int, ranks: int, batch_size: int, rows_per_file: int) -> int:
    """Records of a chunk: at most `rows_per_file`, fewer where that leaves ranks idle, but no less than a batch.

    A smaller share is rounded up to whole batches.
    """
    if ranks == 1:
        return rows_per_file
    share = math.ceil(records / (ranks * CHUNKS_PER_RANK))
    return min(rows_per_file, max(1, math.ceil(share / batch_size)) * batch_size)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, on the disk, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def done_parts(folder: Path, plan: WorkPlan) -> list[Part]:
    """The chunks that are done, in order."""
    paths = [folder / plan.marker_name(chunk) for chunk in plan.chunks]
    return [Part.model_validate_json(path.read_bytes()) for path in paths if path.is_file()]
