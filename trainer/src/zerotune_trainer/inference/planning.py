"""What an InferenceJob has to do, decided once by rank 0 and kept in the output folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyarrow.parquet import ParquetFile

from zerotune_trainer import storage
from zerotune_trainer.atomic import remove_drafts
from zerotune_trainer.config import InferConfig
from zerotune_trainer.config.generation import InferenceOutputFormat
from zerotune_trainer.data.files import DataFile
from zerotune_trainer.data.readers import Record
from zerotune_trainer.data.saved import open_split
from zerotune_trainer.errors import ConfigurationError, DataError
from zerotune_trainer.inference.claims import PLAN_CLAIM
from zerotune_trainer.inference.marks import Marks
from zerotune_trainer.inference.output import write
from zerotune_trainer.inference.plan import (
    CLAIM_PREFIX,
    FILE_PREFIX,
    HEARTBEAT_PREFIX,
    PLAN_NAME,
    WORK_NAME,
    InputFile,
    WorkPlan,
    read_plan,
    shard_size,
)
from zerotune_trainer.inference.rows import encode_schema
from zerotune_trainer.inference.sharing import Sharing
from zerotune_trainer.inference.source import count_records, readable_records, reject_common_clash
from zerotune_trainer.ownership import Ownership, check_digest, writing_errors
from zerotune_trainer.storage import Folder

_POLL_SECONDS = 0.5
_BLOCK = 10_000
"""Records whose types are inferred together."""


def open_plan(
    ownership: Ownership,
    config: InferConfig,
    files: Sequence[DataFile],
    ranks: int,
    sharing: Sharing | None = None,
) -> WorkPlan:
    """The plan of an earlier attempt at this job, else a new one, written to the output folder. Rank 0 calls this.

    Args:
        ownership: The output folder.
        config: The job.
        files: Its input.
        ranks: How many the job has, on all replicas.
        sharing: This replica's part in the work, where there are several: one of them makes the plan.

    Raises:
        ConfigurationError: it is another job's folder, or configuration or input have changed since the job began.
        SupersededError: a later attempt has the folder.
        DataError: a file is broken, or there is no record.
    """
    output = ownership.folder
    if sharing is None:
        _take_over(ownership)
    while (plan := _begun_plan(output, files, alone=sharing is None)) is None:
        if sharing is None or sharing.claim(PLAN_CLAIM):
            plan = _new_plan(config, files, ranks)
            _clear(output)
            write(ownership, PLAN_NAME, plan.to_json().encode())
            break
        time.sleep(_POLL_SECONDS)
    check_digest(output, plan.config_digest, _with_names(config, InferenceOutputFormat()))
    if changes := _changes(plan, files):
        raise ConfigurationError(
            f"the input has changed since the job began: {changes}",
            "give another output.uri to run over the new input",
        )
    if plan.names != _names(config):
        for file in files:
            count_records(file, config.output_format)
        reject_common_clash(files, config.output_format)
    return plan


def _take_over(ownership: Ownership) -> None:
    ownership.acquire()
    with writing_errors(ownership.folder.uri):
        # A draft's author belongs to an attempt that is over, or finds out before its file gets its name.
        for folder in (ownership.folder.local, ownership.folder.local / WORK_NAME):
            remove_drafts(folder)


def _with_names(config: InferConfig, names: InferenceOutputFormat) -> InferConfig:
    """The job with these names of columns: files that have others can be made anew without generating anything."""
    columns = {"generation_column": names.generation_column, "error_column": names.error_column}
    return config.model_copy(update={"output_format": config.output_format.model_copy(update=columns)})


def _names(config: InferConfig) -> list[str]:
    return [config.output_format.generation_column, config.output_format.error_column]


def _clear(output: Folder) -> None:
    """Remove what belongs to no plan: output files of a result that is made again may be more than the new plan has.
    Replicas that wait for the plan are there already."""
    with writing_errors(output.uri):
        work = [f"{WORK_NAME}/{name}" for name in output.children(WORK_NAME)]
        kept = (CLAIM_PREFIX, HEARTBEAT_PREFIX)
        for name in [*filter(lambda name: not name.startswith(kept), work), *output.children()]:
            if name.startswith((FILE_PREFIX, f"{WORK_NAME}/")):
                output.remove(name)


def _new_plan(config: InferConfig, files: Sequence[DataFile], ranks: int) -> WorkPlan:
    counted = [_input_file(file, config.output_format) for file in files]
    records = sum(file.records for file in counted)
    reject_common_clash(files, config.output_format)
    if not records:
        raise DataError(f"no record in {', '.join(config.data.uris)}", "give files that hold records")
    suffix = _suffix(config, files)
    return WorkPlan(
        job=config.job,
        config_digest=_with_names(config, InferenceOutputFormat()).digest(),
        names=_names(config),
        files=counted,
        records=records,
        records_per_shard=shard_size(records, ranks, config.per_device_batch_size, config.output_format.rows_per_file),
        suffix=suffix,
        columns=encode_schema(_schema(files)) if suffix == ".parquet" else None,
    )


def _input_file(file: DataFile, names: InferenceOutputFormat) -> InputFile:
    size, version = _state(file)
    marks = Marks()
    return InputFile(uri=file.uri, size=size, version=version, records=count_records(file, names, marks), marks=marks)


def _state(file: DataFile) -> tuple[int, str]:
    return sum(part.size for part in file.parts), " ".join(part.version for part in file.parts)


def _begun_plan(output: Folder, files: Sequence[DataFile], *, alone: bool) -> WorkPlan | None:
    """The plan of an earlier attempt; not one of other input of which nothing is done yet."""
    plan = read_plan(output)
    if plan is None or not alone or not _changes(plan, files):
        return plan
    is_begun = any(name.startswith(FILE_PREFIX) for name in output.children(WORK_NAME))
    return plan if is_begun else None


def _changes(plan: WorkPlan, files: Sequence[DataFile]) -> str:
    """What has changed of the input since a plan was made; empty where nothing has."""
    before = {file.uri: (file.size, file.version) for file in plan.files}
    now = {file.uri: _state(file) for file in files}
    changed = sorted(uri for uri in before.keys() | now.keys() if before.get(uri) != now.get(uri))
    is_same_order = [file.uri for file in plan.files] == [file.uri for file in files]
    return ", ".join(changed) or ("" if is_same_order else "the order of its files")


def _suffix(config: InferConfig, files: Sequence[DataFile]) -> str:
    wanted = config.output_format.format
    if wanted == "auto":
        wanted = "parquet" if all(file.format == "parquet" for file in files) else "jsonl"
    return f".{wanted}"


def _schema(files: Sequence[DataFile]) -> pa.Schema:
    """The columns and types of all files."""
    try:
        return pa.unify_schemas([_file_schema(file) for file in files], promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"the columns of the input have no type that holds all their values: {error}",
            "write the output as jsonl: outputFormat.format",
        ) from error


def _file_schema(file: DataFile) -> pa.Schema:
    if file.format == "parquet":
        with storage.open_native(file.uri) as native:
            return ParquetFile(native).schema_arrow.remove_metadata()
    if file.format == "datasets":
        return open_split(file).features.arrow_schema.remove_metadata()
    return pa.unify_schemas(list(_inferred(file)), promote_options="permissive")


def _inferred(file: DataFile) -> Any:
    block: list[Record] = []
    for record in readable_records(file):
        block.append(record)
        if len(block) == _BLOCK:
            yield _schema_of(block, file)
            block.clear()
    yield _schema_of(block, file) if block else pa.schema([])


def _schema_of(block: Sequence[Record], file: DataFile) -> pa.Schema:
    try:
        return pa.schema(pa.array([record.values for record in block]).type)
    except pa.ArrowException as error:
        raise DataError(
            f"{file.name}: column {_mixed_column(block)!r} holds values of types that do not go together: {error}",
            "write the output as jsonl: outputFormat.format",
        ) from error


def _mixed_column(block: Sequence[Record]) -> str:
    """The first column whose values have no type in common."""
    for name in dict.fromkeys(name for record in block for name in record.values):
        try:
            pa.array([record.values.get(name) for record in block])
        except pa.ArrowException:
            return name
    raise AssertionError("the values of one column at least go not together")
