"""The output folder of an InferenceJob: shards while it runs, figures and the manifest at its end."""

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
from zerotune_trainer.inference.work import (
    WORK_NAME,
    BatchFigures,
    CompletedShard,
    WorkPlan,
    completed_shards,
)
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


def write_shard(
    output: Folder,
    config: InferConfig,
    plan: WorkPlan,
    shard_and_rank: tuple[int, int],
    rows: Sequence[OutputRow],
    batches: list[BatchFigures],
) -> None:
    """Write the output file of a shard, then the marker that says that it is whole.

    Args:
        output: The output folder.
        config: The job.
        plan: Its work.
        shard_and_rank: The shard, and the rank that did it.
        rows: Its records, in order.
        batches: What its batches took.
    """
    shard, rank = shard_and_rank
    name, content = plan.file_name(shard), _content(config, plan, rows)
    output.write(name, content)
    marker = CompletedShard(
        shard=shard,
        rank=rank,
        file=ManifestFile(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest()),
        records=len(rows),
        failed_records=sum(row.error is not None for row in rows),
        batches=batches,
    )
    output.write(plan.marker_name(shard), marker.model_dump_json(by_alias=True).encode())


def write_results(output: Folder, config: InferConfig, plan: WorkPlan) -> Manifest:
    """Write `metrics.jsonl`, `results.json` and, last, the manifest, which is returned; then clear the work away."""
    output.pull(WORK_NAME)
    shards = completed_shards(output.local, plan)
    records = [_batch_record(shard, batch) for shard in shards for batch in shard.batches]
    lines = "".join(record.model_dump_json(by_alias=True) + "\n" for record in records)
    results = _results(shards).model_dump_json(by_alias=True, indent=2) + "\n"
    contents = {METRICS_NAME: lines.encode(), RESULTS_NAME: results.encode()}
    for name, content in contents.items():
        output.write(name, content)
    figures = [
        ManifestFile(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    ]
    manifest = Manifest(
        job=config.job,
        config_digest=config.digest(),
        step=plan.records,
        files=[*figures, *(shard.file for shard in shards)],
    )
    output.write(MANIFEST_NAME, manifest.encoded())
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


def _batch_record(shard: CompletedShard, batch: BatchFigures) -> BatchRecord:
    pace = batch.new_tokens / batch.seconds
    return BatchRecord(part=shard.file.path, rank=shard.rank, tokens_per_second=pace, **batch.model_dump())


def _results(shards: Sequence[CompletedShard]) -> InferenceResults:
    batches = [batch for shard in shards for batch in shard.batches]
    seconds = [batch.seconds for batch in batches]
    new_tokens = sum(batch.new_tokens for batch in batches)
    return InferenceResults(
        records=sum(shard.records for shard in shards),
        failed_records=sum(shard.failed_records for shard in shards),
        files=len(shards),
        batches=len(batches),
        prompt_tokens=sum(batch.prompt_tokens for batch in batches),
        new_tokens=new_tokens,
        generating_seconds=sum(seconds),
        tokens_per_second_per_rank=new_tokens / sum(seconds) if seconds else None,
        median_batch_seconds=statistics.median(seconds) if seconds else None,
        slowest_batch_seconds=max(seconds, default=None),
    )
