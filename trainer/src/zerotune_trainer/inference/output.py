"""The output folder of an InferenceJob: shards while it runs, figures and the manifest at its end."""

from __future__ import annotations

import hashlib
import logging
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import ValidationError

from zerotune_trainer.config import InferConfig
from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.generation import InferenceOutputFormat
from zerotune_trainer.errors import DataError
from zerotune_trainer.inference.engine import BatchFigures
from zerotune_trainer.inference.markers import Marker, difference, written_shard
from zerotune_trainer.inference.partial import PartialShard
from zerotune_trainer.inference.plan import WORK_NAME, WorkPlan
from zerotune_trainer.inference.rows import OutputRow, as_jsonl, as_parquet, decode_schema, read_jsonl, read_parquet
from zerotune_trainer.inference.scoring import cell_type
from zerotune_trainer.manifest import MANIFEST_NAME, METRICS_NAME, Manifest, ManifestFile
from zerotune_trainer.ownership import Ownership, complete_manifest, writing_errors
from zerotune_trainer.progress import Progress
from zerotune_trainer.reporting.results import RESULTS_NAME
from zerotune_trainer.storage import Folder, read_bytes

_FILES_AT_ONCE = 8

_log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class ShardFiles:
    """Where shards are written. Nothing is marked as whole once a later attempt has the folder."""

    ownership: Ownership
    config: InferConfig
    plan: WorkPlan
    rank: int

    @property
    def output(self) -> Folder:
        """The output folder."""
        return self.ownership.folder

    @property
    def names(self) -> InferenceOutputFormat:
        """The names of the output's own columns."""
        return self.config.output_format

    def partial(self, shard: int) -> PartialShard:
        """What has been generated of a shard before: also all of it, where only names of columns have changed since."""
        partial = PartialShard(
            self.output, self.plan, shard, lambda name, content: write(self.ownership, name, content)
        )
        marker = written_shard(self.output, self.plan, shard)
        if isinstance(marker, Marker):
            content = read_bytes(self.output.location.below(marker.file.path).uri)
            column = marker.generation_column
            texts = read_jsonl(content, column) if self.plan.columns is None else read_parquet(content, column)
            partial.take_over(dict(zip(self.plan.records_of(shard), texts, strict=True)), marker.batches)
        return partial

    def write(self, shard: int, rows: Sequence[OutputRow], partial: PartialShard) -> None:
        """Write the output file of a shard, then its marker.

        Args:
            shard: The shard.
            rows: Its records, in order.
            partial: What they were made of; its files are removed.

        Raises:
            SupersededError: a later attempt has the folder.
            TemporaryError, ConfigurationError: the folder cannot be written.
        """
        name, content = self.plan.file_name(shard), _content(self.config, self.plan, rows)
        write(self.ownership, name, content)
        marker = Marker(
            plan=self.plan.digest,
            attempt=self.config.job.attempt,
            shard=shard,
            rank=self.rank,
            file=_described(name, content),
            records=len(rows),
            failed_records=sum(row.error is not None for row in rows),
            generation_column=self.names.generation_column,
            error_column=self.names.error_column,
            batches=partial.batches,
        )
        write(self.ownership, self.plan.marker_name(shard), marker.model_dump_json(by_alias=True).encode())
        with writing_errors(self.output.uri):
            partial.remove()


def write(ownership: Ownership, name: str, content: bytes) -> None:
    """Write a file of the output folder, whole or not at all, while that is this attempt's.

    Raises:
        SupersededError: a later attempt has it.
        TemporaryError, ConfigurationError: it cannot be written.
    """
    with writing_errors(ownership.folder.uri):
        try:
            ownership.folder.write(name, content, ownership.verify)
        except FileNotFoundError:
            # A later attempt that acquires the folder removes drafts, also one whose author has just verified.
            ownership.verify()
            raise


def write_results(ownership: Ownership, config: InferConfig, markers: Sequence[Marker]) -> Manifest:
    """Write `metrics.jsonl`, `results.json` and, last, the manifest, which is returned; then clear the work away.

    Args:
        ownership: Of the output folder.
        config: The job.
        markers: All shards, as `rounds.generate_all` has verified them: the result is what they say, not what was
            planned.
    """
    results = _results(markers)
    records = [_batch_record(marker, batch) for marker in markers for batch in marker.batches]
    lines = "".join(record.model_dump_json(by_alias=True) + "\n" for record in records)
    contents = {
        METRICS_NAME: lines.encode(),
        RESULTS_NAME: results.model_dump_json(by_alias=True, indent=2).encode() + b"\n",
    }
    for name, content in contents.items():
        write(ownership, name, content)
    manifest = Manifest(
        job=config.job,
        config_digest=config.digest(),
        step=results.records,
        error_column=config.output_format.error_column,
        files=[
            *(_described(name, content) for name, content in contents.items()),
            *(marker.file for marker in markers),
        ],
    )
    write(ownership, MANIFEST_NAME, manifest.encoded())
    with writing_errors(ownership.folder.uri):
        ownership.folder.remove(WORK_NAME)
    return manifest


def finished(output: Folder, config: InferConfig) -> Manifest | None:
    """The manifest of a job that has finished, where all its files are as it says.

    A manifest whose files are deleted or altered is removed: the job is not finished.

    Raises:
        ConfigurationError: the folder holds the result of another job, or of this one with another configuration.
    """
    manifest = complete_manifest(output, config)
    if manifest is None:
        return None
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        problems = [text for text in pool.map(lambda file: difference(output, file), manifest.files) if text]
    if not problems:
        return manifest
    _log.warning("%s is made again, its result is not whole: %s", output.uri, "; ".join(problems[:10]))
    with writing_errors(output.uri):
        output.remove(MANIFEST_NAME)
    return None


def final_progress(output: Folder, manifest: Manifest) -> Progress:
    """The last figures of a finished job, from its `results.json`.

    Raises:
        DataError: there is none, or it holds something else than the manifest.
    """
    found = output.read(RESULTS_NAME)
    try:
        results = InferenceResults.model_validate_json(found.content if found else b"")
    except ValidationError as error:
        raise DataError(
            f"{output.uri}/{RESULTS_NAME}: {error}", "the run that wrote this folder was of another version of zerotune"
        ) from error
    if results.records != manifest.step:
        raise DataError(
            f"{output.uri}: {RESULTS_NAME} has {results.records} records, the manifest {manifest.step}",
            "remove the manifest: the job makes its result again",
        )
    return Progress(step=results.records, total=manifest.step, failed_records=results.failed_records)


def _described(name: str, content: bytes) -> ManifestFile:
    return ManifestFile(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def _content(config: InferConfig, plan: WorkPlan, rows: Sequence[OutputRow]) -> bytes:
    if plan.columns is None:
        return as_jsonl(rows, config.output_format)
    return as_parquet(rows, config.output_format, decode_schema(plan.columns), cell_type(config))


def _batch_record(marker: Marker, batch: BatchFigures) -> BatchRecord:
    pace = batch.new_tokens / batch.seconds
    return BatchRecord(part=marker.file.path, rank=marker.rank, tokens_per_second=pace, **batch.model_dump())


def _results(markers: Sequence[Marker]) -> InferenceResults:
    batches = [batch for marker in markers for batch in marker.batches]
    seconds = [batch.seconds for batch in batches]
    new_tokens = sum(batch.new_tokens for batch in batches)
    return InferenceResults(
        records=sum(marker.records for marker in markers),
        failed_records=sum(marker.failed_records for marker in markers),
        files=len(markers),
        batches=len(batches),
        prompt_tokens=sum(batch.prompt_tokens for batch in batches),
        new_tokens=new_tokens,
        generating_seconds=sum(seconds),
        tokens_per_second_per_rank=new_tokens / sum(seconds) if seconds else None,
        median_batch_seconds=statistics.median(seconds) if seconds else None,
        slowest_batch_seconds=max(seconds, default=None),
    )
