"""The output folder of an InferenceJob: shards while it runs, figures and the manifest at its end."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from zerotune_trainer.atomic import Content
from zerotune_trainer.config import InferConfig
from zerotune_trainer.config.generation import InferenceOutputFormat
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import DataError
from zerotune_trainer.inference.claims import ClaimLostError
from zerotune_trainer.inference.markers import (
    BatchRecord,
    Marker,
    WholeShard,
    content_difference,
    read_whole,
    written_shard,
)
from zerotune_trainer.inference.metrics_file import MetricsFile
from zerotune_trainer.inference.partial import PartialShard
from zerotune_trainer.inference.plan import WorkPlan
from zerotune_trainer.inference.rows import (
    OutputRow,
    as_jsonl,
    as_parquet,
    decode_schema,
    read_jsonl,
    read_parquet,
    shown,
)
from zerotune_trainer.inference.scoring import cell_type
from zerotune_trainer.manifest import MANIFEST_NAME, METRICS_NAME, Manifest, ManifestFile
from zerotune_trainer.ownership import Ownership, complete_manifest, writing_errors
from zerotune_trainer.progress import Progress
from zerotune_trainer.reporting.inference_report import inference_page
from zerotune_trainer.reporting.inference_results import InferenceResults
from zerotune_trainer.reporting.page import REPORT_NAME
from zerotune_trainer.reporting.record_outcomes import ErrorClasses
from zerotune_trainer.reporting.results import RESULTS_NAME
from zerotune_trainer.storage import Folder, read_bytes

_FILES_AT_ONCE = 8
SHOWN_RECORDS = 8
"""How many records the report shows: the first ones."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardFiles:
    """Where shards are written. Nothing is marked as whole once a later attempt has the folder."""

    ownership: Ownership
    config: InferConfig
    plan: WorkPlan
    rank: int
    verify_claim: Callable[[int], None] = lambda _: None
    """Raises ClaimLostError where another replica works on a shard by now."""

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
        partial = PartialShard(self.output, self.plan, shard, lambda name, content: self._keep(shard, name, content))
        marker = written_shard(self.output, self.plan, shard)
        if isinstance(marker, Marker):
            content = read_bytes(self.output.location.below(marker.file.path).uri)
            column = marker.generation_column
            texts = read_jsonl(content, column) if self.plan.columns is None else read_parquet(content, column)
            _, lines = read_whole(self.output, self.plan.marker_name(shard))
            batches = [BatchRecord.model_validate_json(line) for line in lines]
            partial.take_over(dict(zip(self.plan.records_of(shard), texts, strict=True)), batches)
        return partial

    def described(self, shard: WholeShard) -> ManifestFile:
        """What the manifest says of its file."""
        return ManifestFile(path=self.plan.file_name(shard.shard), size=shard.size, sha256=shard.sha256)

    def write(self, shard: int, rows: Sequence[OutputRow], partial: PartialShard) -> bool:
        """Write the output file of a shard, then its marker, unless another replica works on it by now.

        Args:
            shard: The shard.
            rows: Its records, in order.
            partial: What they were made of; its files are removed.

        Returns:
            Whether it was written.

        Raises:
            SupersededError: a later attempt has the folder.
            TemporaryError, ConfigurationError: the folder cannot be written.
        """
        name, content = self.plan.file_name(shard), _content(self.config, self.plan, rows)
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
            errors=ErrorClasses.of(row.error for row in rows if row.error is not None).counts,
            shown=[shown(row) for row in rows[:SHOWN_RECORDS]] if shard == 0 else [],
        )
        written = self._keep(shard, name, content) and self._keep(
            shard, self.plan.marker_name(shard), marker.encoded(partial.batches)
        )
        if written:
            with writing_errors(self.output.uri):
                partial.remove()
        return written

    def _keep(self, shard: int, name: str, content: bytes) -> bool:
        """Write a file of a shard; False where another replica works on that by now."""

        def verify() -> None:
            self.ownership.verify()
            self.verify_claim(shard)

        try:
            write(self.ownership, name, content, verify)
        except ClaimLostError as lost:
            _log.warning("%s is not written: %s", name, lost.message)
            return False
        return True


def write(ownership: Ownership, name: str, content: Content, verify: Callable[[], None] | None = None) -> None:
    """Write a file of the output folder, whole or not at all, while that is this attempt's.

    Args:
        ownership: The folder.
        name: The file.
        content: What it is to hold.
        verify: Raises where it may not be written any more. Default: where the folder is a later attempt's.

    Raises:
        SupersededError: a later attempt has it.
        TemporaryError, ConfigurationError: it cannot be written.
    """
    with writing_errors(ownership.folder.uri):
        ownership.folder.write(name, content, verify or ownership.verify)


def write_results(files: ShardFiles, shards: Sequence[WholeShard]) -> Manifest:
    """Write `metrics.jsonl`, `results.json`, `report.html` and, last, the manifest, which is returned.

    Args:
        files: The shards' files.
        shards: All of them, as `rounds.generate_all` has verified them: the result is what they say, not what was
            planned.
    """
    ownership, config = files.ownership, files.config
    metrics = MetricsFile(files.output, files.plan, shards)
    write(ownership, METRICS_NAME, metrics.pieces)
    results = _results(shards, metrics)
    encoded = results.model_dump_json(by_alias=True, indent=2).encode() + b"\n"
    write(ownership, RESULTS_NAME, encoded)
    page = inference_page(config, results, metrics.files, metrics.errors.counts, metrics.shown)
    write(ownership, REPORT_NAME, page)
    made = [metrics.described(), _described(RESULTS_NAME, encoded), _described(REPORT_NAME, page)]
    manifest = Manifest(
        job=config.job,
        config_digest=config.digest(),
        step=results.records,
        error_column=config.output_format.error_column,
        files=[*made, *map(files.described, shards)],
    )
    write(ownership, MANIFEST_NAME, manifest.encoded())
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
        problems = [text for text in pool.map(lambda file: content_difference(output, file), manifest.files) if text]
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
            f"{output.uri}: {RESULTS_NAME} has {counted(results.records, 'record')}, the manifest {manifest.step}",
            "remove the manifest: the job makes its result again",
        )
    return Progress(step=results.records, total=manifest.step, failed_records=results.failed_records)


def _described(name: str, content: bytes) -> ManifestFile:
    return ManifestFile(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def _content(config: InferConfig, plan: WorkPlan, rows: Sequence[OutputRow]) -> bytes:
    if plan.columns is None:
        return as_jsonl(rows, config.output_format)
    return as_parquet(rows, config.output_format, decode_schema(plan.columns), cell_type(config))


def _results(shards: Sequence[WholeShard], metrics: MetricsFile) -> InferenceResults:
    seconds = metrics.seconds
    total, new_tokens = sum(seconds), sum(file.new_tokens for file in metrics.files)
    return InferenceResults(
        records=sum(shard.records for shard in shards),
        failed_records=sum(shard.failed_records for shard in shards),
        files=len(shards),
        batches=len(seconds),
        prompt_tokens=sum(file.prompt_tokens for file in metrics.files),
        new_tokens=new_tokens,
        generating_seconds=total,
        tokens_per_second_per_rank=new_tokens / total if seconds else None,
        median_batch_seconds=float(np.median(seconds)) if seconds else None,
        slowest_batch_seconds=max(seconds, default=None),
    )
