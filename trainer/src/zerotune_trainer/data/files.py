"""Which files the records are in, and in which format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import ValidationError

from zerotune_trainer import storage
from zerotune_trainer.config.data import Records
from zerotune_trainer.data.hub import HUB_SCHEME, data_set_folder
from zerotune_trainer.errors import ConfigurationError, InputMissingError
from zerotune_trainer.manifest import MANIFEST_NAME, METRICS_NAME, OWNER_NAME, SCRIPT_METRICS_NAME, Manifest
from zerotune_trainer.storage import Location, StoredFile

Format = Literal["jsonl", "parquet", "csv", "txt", "datasets"]

_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".parquet": "parquet",
    ".csv": "csv",
    ".txt": "txt",
}
_OWN_NAMES = frozenset({METRICS_NAME, SCRIPT_METRICS_NAME, "merges.txt", "vocab.txt"})
"""Files beside the results of a job that look like records: its metrics, and its tokenizer's."""
_LEVELS = 3
"""How far up a job's folder is: `output/checkpoints/checkpoint-500/metrics.jsonl`."""
_DATASETS_MARKERS = ("dataset_dict.json", "state.json")
"""Files that `datasets.save_to_disk` writes into the folder of a DatasetDict and of a Dataset."""


@dataclass(frozen=True)
class DataFile:
    """A file of records. For format `datasets` it is a folder on this machine, and `parts` are its files."""

    uri: str
    format: Format
    parts: tuple[StoredFile, ...]
    split: str | None = None
    error_column: str | None = None
    """Column by which a record says why it has no text, where an InferenceJob wrote the file."""

    @property
    def name(self) -> str:
        """How messages name it: the path of a local file, else the URI."""
        return self.uri.removeprefix("file://")


def resolve(records: Records, cache_dir: Path) -> list[DataFile]:
    """The files of records, URI after URI as written, sorted by path within each.

    Args:
        records: What the job names.
        cache_dir: Receives a `datasets` folder that is on S3.

    Raises:
        InputMissingError: a URI stands for no file.
        ConfigurationError: a file's name does not show the format, the URI's scheme holds no files, or a split is
            asked for where there are none.
    """
    return [file for uri in records.uris for file in _resolve(uri, records, cache_dir)]


def _resolve(uri: str, records: Records, cache_dir: Path) -> list[DataFile]:
    if uri.startswith(HUB_SCHEME):
        return [_of_hub(uri, records, cache_dir)]
    if records.subset is not None:
        raise ConfigurationError(
            f"{uri}: subset {records.subset!r} chooses from a data set of the Hugging Face Hub, and this is none",
            "leave `subset` out, or name the data set as hf://datasets/ORG/NAME",
        )
    location = storage.locate(uri)
    if records.format == "datasets" or (records.format == "auto" and _is_datasets_folder(location)):
        folder = storage.local_folder(uri, cache_dir)
        parts = storage.list_files(f"file://{folder}", [".arrow", ".json"])
        return [DataFile(f"file://{folder}", "datasets", tuple(parts), records.split)]
    if records.split is not None:
        raise ConfigurationError(
            f"{uri}: split {records.split!r} chooses from a `datasets` folder of several, and this is none",
            "leave `split` out, or give the folder that `datasets.DatasetDict.save_to_disk` wrote",
        )
    listed = storage.list_files(uri, _suffixes(records.format))
    stored = [file for file in listed if file.uri == uri or not _is_a_jobs_own(file)]
    if not stored:
        raise InputMissingError(
            f"{uri} holds no records: {_some_names(listed)} belong to the job that wrote the folder",
            "an InferenceJob's records are in the files part-*; a FineTuneJob's output is a model",
        )
    columns = {folder: _error_column(folder) for folder in {_folder_of(file) for file in stored}}
    return [
        DataFile(file.uri, _format(file, records), (file,), error_column=columns[_folder_of(file)]) for file in stored
    ]


def _of_hub(uri: str, records: Records, cache_dir: Path) -> DataFile:
    if records.format not in ("auto", "datasets"):
        raise ConfigurationError(
            f"{uri}: format {records.format} is for files, and this is a data set, which `datasets` reads",
            "leave `format` out",
        )
    folder = data_set_folder(uri, records.subset, records.split, cache_dir)
    return DataFile(f"file://{folder}", "datasets", tuple(storage.list_files(f"file://{folder}", [".arrow", ".json"])))


def _is_datasets_folder(location: Location) -> bool:
    return any(storage.is_file(location.below(marker)) for marker in _DATASETS_MARKERS)


def _is_a_jobs_own(file: StoredFile) -> bool:
    """Whether a job wrote a file beside its results, or in its checkpoints: no name alone says so."""
    if PurePosixPath(file.uri).name not in _OWN_NAMES:
        return False
    above = str(file.uri)
    for _ in range(_LEVELS):
        above = above.rpartition("/")[0]
        if above.endswith("/") or storage.is_file(storage.locate(f"{above}/{OWNER_NAME}")):
            return not above.endswith("/")
    return False


def _folder_of(file: StoredFile) -> str:
    return file.uri.rpartition("/")[0]


def _error_column(folder: str) -> str | None:
    """What the manifest of a finished InferenceJob says of its records; None of any other folder."""
    manifest = storage.locate(f"{folder}/{MANIFEST_NAME}")
    if folder.endswith("/") or not storage.is_file(manifest):
        return None
    try:
        return Manifest.model_validate_json(storage.read_bytes(manifest.uri)).error_column
    except ValidationError:
        return None


def _some_names(files: list[StoredFile]) -> str:
    """The first of the files by name."""
    names = ", ".join(PurePosixPath(file.uri).name for file in files[:3])
    return names if len(files) <= 3 else f"{names} and {len(files) - 3} more"


def _suffixes(wanted: str) -> list[str]:
    return [suffix for suffix, format_ in _SUFFIXES.items() if wanted in ("auto", format_)]


def _format(file: StoredFile, records: Records) -> Format:
    if records.format != "auto":
        return records.format
    for suffix, format_ in _SUFFIXES.items():
        if file.uri.endswith(suffix):
            return format_
    raise ConfigurationError(
        f"{file.name}: the name does not show the format",
        f"give data files that end in {', '.join(_SUFFIXES)}, or set `format`",
    )
