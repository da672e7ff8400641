"""The output folder of an InferenceJob: parts while it runs, figures and the manifest at its end."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from zerotune_trainer.config import InferConfig
from zerotune_trainer.config.base import Settings
from zerotune_trainer.errors import DataError
from zerotune_trainer.inference.rows import OutputRow, as_jsonl, as_parquet, decode_schema
from zerotune_trainer.inference.work import WORK_NAME, BatchFigures, Part, WorkPlan, done_parts, write_whole
from zerotune_trainer.manifest import MANIFEST_NAME, Manifest, ManifestFile
from zerotune_trainer.progress import Progress
from zerotune_trainer.reporting.results import METRICS_NAME, RESULTS_NAME
from zerotune_trainer.storage import Folder


class BatchRecord(BatchFigures):
    """A line of an InferenceJob's `metrics.jsonl`: what one batch took, in the order of the output."""

    part: str
    rank: int
    tokens_per_second: float


class InferenceResults(Settings):
    """An InferenceJob's `results.json`."""

    records: int
    failed_records: int
    """Records that have an `error` instead of a text."""
    files: int
    batches: int
    prompt_tokens: int
    new_tokens: int
    generating_seconds: float
    """Of all batches on all ranks together."""
    tokens_per_second_per_rank: float | None
    median_batch_seconds: float | None
    slowest_batch_seconds: float | None


def write_part(
    output: Folder,
    config: InferConfig,
    plan: WorkPlan,
    part: tuple[int, int],
    rows: Sequence[OutputRow],
    batches: list[BatchFigures],
) -> None:
    """Write the output file of a chunk, then the marker that says that it is whole.

    Args:
        output: The output folder.
        config: The job.
        plan: Its work.
        part: The chunk, and the rank that did it.
        rows: Its records, in order.
        batches: What its batches took.
    """
    chunk, rank = part
    name, content = plan.part_name(chunk), _content(config, plan, rows)
    write_whole(output.local / name, content)
    output.push([name])
    marker = Part(
        chunk=chunk,
        rank=rank,
        file=ManifestFile(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest()),
        records=len(rows),
        failed_records=sum(row.error is not None for row in rows),
        batches=batches,
    )
    write_whole(output.local / plan.marker_name(chunk), marker.model_dump_json(by_alias=True).encode())
    output.push([plan.marker_name(chunk)])


def write_results(output: Folder, config: InferConfig, plan: WorkPlan) -> Manifest:
    """Write `metrics.jsonl`, `results.json` and, last, the manifest, which is returned; then clear the work away."""
    output.pull(WORK_NAME)
    parts = done_parts(output.local, plan)
    records = [_batch_record(part, batch) for part in parts for batch in part.batches]
    lines = "".join(record.model_dump_json(by_alias=True) + "\n" for record in records)
    results = _results(parts).model_dump_json(by_alias=True, indent=2) + "\n"
    contents = {METRICS_NAME: lines.encode(), RESULTS_NAME: results.encode()}
    for name, content in contents.items():
        write_whole(output.local / name, content)
    output.push(contents)
    figures = [
        ManifestFile(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    ]
    manifest = Manifest(
        job=config.job,
        config_digest=config.digest(),
        step=plan.records,
        files=[*figures, *(part.file for part in parts)],
    )
    write_whole(output.local / MANIFEST_NAME, manifest.model_dump_json(by_alias=True, indent=2).encode() + b"\n")
    output.push([MANIFEST_NAME])
    output.remove(WORK_NAME)
    return manifest


def final_progress(folder: Path) -> Progress:
    """The last figures of a finished job, from its `results.json`.

    Raises:
        OSError: there is none.
        DataError: it holds something else.
    """
    path = folder / RESULTS_NAME
    try:
        results = InferenceResults.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{path}: {error}", "the run that wrote this folder was of another version of zerotune"
        ) from error
    return Progress(step=results.records, total=results.records, failed_records=results.failed_records)


def _content(config: InferConfig, plan: WorkPlan, rows: Sequence[OutputRow]) -> bytes:
    if plan.columns is None:
        return as_jsonl(rows, config.output_format)
    is_several = config.generation.num_return_sequences > 1
    return as_parquet(rows, config.output_format, decode_schema(plan.columns), several=is_several)


def _batch_record(part: Part, batch: BatchFigures) -> BatchRecord:
    pace = batch.new_tokens / batch.seconds
    return BatchRecord(part=part.file.path, rank=part.rank, tokens_per_second=pace, **batch.model_dump())


def _results(parts: Sequence[Part]) -> InferenceResults:
    batches = [batch for part in parts for batch in part.batches]
    seconds = [batch.seconds for batch in batches]
    new_tokens = sum(batch.new_tokens for batch in batches)
    return InferenceResults(
        records=sum(part.records for part in parts),
        failed_records=sum(part.failed_records for part in parts),
        files=len(parts),
        batches=len(batches),
        prompt_tokens=sum(batch.prompt_tokens for batch in batches),
        new_tokens=new_tokens,
        generating_seconds=sum(seconds),
        tokens_per_second_per_rank=new_tokens / sum(seconds) if seconds else None,
        median_batch_seconds=statistics.median(seconds) if seconds else None,
        slowest_batch_seconds=max(seconds, default=None),
    )
