"""A results folder: written on this machine, pushed to where it belongs."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSelector, FileType, copy_files

from zerotune_trainer.storage.files import file_type, files_below
from zerotune_trainer.storage.locations import Location, locate, store_errors

_TRANSFERS = 8
"""Files that are sent or fetched at once."""


@dataclass(frozen=True)
class Folder:
    """A folder that receives results. `local` is where to write: the folder itself, or a staging folder for S3."""

    location: Location
    local: Path

    @property
    def uri(self) -> str:
        """Where the results belong."""
        return self.location.uri

    def push(self, relative_paths: Iterable[str | Path]) -> None:
        """Send files and folders below `local` to the URI, many at once; when it returns they are there.

        Nothing is sent for `file://`. The caller pushes the manifest last, by itself.

        Raises:
            InputMissingError, ConfigurationError, TemporaryError: as `store_errors` says.
        """
        files = [file for path in relative_paths for file in _files(self.local / path)]
        if self.location.local is None:
            self._transfer(files, self._send)

    def pull(self, prefix: str = "") -> None:
        """Fetch what lies below `prefix` at the URI into `local`. Nothing is fetched for `file://`."""
        if self.location.local is None:
            source = self.location.below(prefix) if prefix else self.location
            self._transfer([info.path for info in files_below(source)], self._fetch)

    def children(self) -> list[str]:
        """The names directly below the URI, sorted."""
        with store_errors(self.uri):
            infos = self.location.filesystem.get_file_info(FileSelector(self.location.path, allow_not_found=True))
        return sorted(info.base_name for info in infos)

    def remove(self, child: str) -> None:
        """Remove a file or folder below the URI, and its local copy; one that is not there is no error."""
        target = self.location.below(child)
        with store_errors(target.uri):
            match file_type(target):
                case FileType.Directory:
                    target.filesystem.delete_dir(target.path)
                case FileType.File:
                    target.filesystem.delete_file(target.path)
        if self.location.local is None:
            _remove_local(self.local / child)

    def _transfer(self, items: list[Any], one: Any) -> None:
        with store_errors(self.uri), ThreadPoolExecutor(_TRANSFERS) as pool:
            list(pool.map(one, items))

    def _send(self, file: Path) -> None:
        target = self.location.below(file.relative_to(self.local).as_posix())
        copy_files(str(file), target.path, destination_filesystem=target.filesystem)

    def _fetch(self, path: str) -> None:
        target = self.local / path.removeprefix(f"{self.location.path}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_files(path, str(target), source_filesystem=self.location.filesystem)


def open_folder(uri: str, cache_dir: Path) -> Folder:
    """The results folder at a URI, made where it is not there. Results for S3 are staged below `cache_dir`.

    Raises:
        ConfigurationError: not a folder of this machine or of S3, or it cannot be written.
    """
    location = locate(uri)
    staging = cache_dir / "staging" / hashlib.sha256(uri.encode()).hexdigest()[:32]
    local = location.local or staging
    with store_errors(uri):
        local.mkdir(parents=True, exist_ok=True)
    return Folder(location, local)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _remove_local(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
