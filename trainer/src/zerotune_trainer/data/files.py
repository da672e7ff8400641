"""Which files the records are in, and in which format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zerotune_trainer import storage
from zerotune_trainer.config.sources import Records
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.storage import Location, StoredFile

Format = Literal["jsonl", "parquet", "csv", "txt", "datasets"]

_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".parquet": "parquet",
    ".csv": "csv",
    ".txt": "txt",
}
_DATASETS_MARKERS = ("dataset_dict.json", "state.json")
"""Files that `datasets.save_to_disk` writes into the folder of a DatasetDict and of a Dataset."""


@dataclass(frozen=True)
class DataFile:
    """A file of records. For format `datasets` it is a folder on this machine, and `parts` are its files."""

    uri: str
    format: Format
    parts: tuple[StoredFile, ...]
    split: str | None = None

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
        ConfigurationError: the format cannot be told from a file's name, the URI's scheme holds no files, or a split is
            asked for where there are none.
    """
    return [file for uri in records.uris for file in _resolve(uri, records, cache_dir)]


def _resolve(uri: str, records: Records, cache_dir: Path) -> list[DataFile]:
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
    stored = storage.list_files(uri, _suffixes(records.format))
    return [DataFile(file.uri, _format(file, records), (file,)) for file in stored]


def _is_datasets_folder(location: Location) -> bool:
    return any(storage.is_file(location.below(marker)) for marker in _DATASETS_MARKERS)


def _suffixes(wanted: str) -> list[str]:
    return [suffix for suffix, format_ in _SUFFIXES.items() if wanted in ("auto", format_)]


def _format(file: StoredFile, records: Records) -> Format:
    if records.format != "auto":
        return records.format
    for suffix, format_ in _SUFFIXES.items():
        if file.uri.endswith(suffix):
            return format_
    raise ConfigurationError(
        f"{file.name}: the format cannot be told from the name",
        f"give data files that end in {', '.join(_SUFFIXES)}, or set `format`",
    )
