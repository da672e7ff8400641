"""A results folder: where a job writes, and how what it wrote gets to where it belongs.

Folder
+-- LocalFolder    a folder of this machine or of a volume: what is written is there at once, for all hosts
+-- StagedFolder   a folder on S3: written to a folder of this machine, and sent
"""

from __future__ import annotations

import hashlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pyarrow.fs import FileSelector, FileType, copy_files

from zerotune_trainer.atomic import create_exclusively, write_atomically
from zerotune_trainer.errors import InputMissingError
from zerotune_trainer.storage.files import file_type, files_below, read_bytes
from zerotune_trainer.storage.locations import Location, locate, store_errors
from zerotune_trainer.storage.once import locked

_TRANSFERS = 8
"""Files that are sent or fetched at once."""


class Versioned(NamedTuple):
    """A small file as it was read, and what tells this version of it from any other."""

    content: bytes
    version: str


@dataclass(frozen=True)
class Folder(ABC):
    """A folder that receives results."""

    location: Location
    """Where the results belong."""
    local: Path
    """Where to write."""

    is_staged: ClassVar[bool]
    """Whether each host has a `local` of its own, which others do not see before it is pushed."""

    @property
    def uri(self) -> str:
        """Where the results belong."""
        return self.location.uri

    def write(self, relative: str, content: bytes, verify: Callable[[], None] = lambda: None) -> None:
        """Write a small file, whole or not at all; when this returns it is where it belongs.

        Args:
            relative: Its path below the folder.
            content: What it is to hold.
            verify: As in `atomic.write_atomically`.

        Raises:
            OSError: it cannot be written.
            InputMissingError, ConfigurationError, TemporaryError: as `store_errors` says.
        """
        write_atomically(self.local / relative, content, verify)
        self.push([relative])

    @abstractmethod
    def push(self, relative_paths: Iterable[str | Path]) -> None:
        """Send files and folders below `local` to where they belong; when this returns they are there.

        The caller pushes the manifest last, by itself.

        Raises:
            InputMissingError, ConfigurationError, TemporaryError: as `store_errors` says.
        """

    @abstractmethod
    def pull(self, prefix: str = "") -> None:
        """Bring what lies below `prefix` where it belongs into `local`."""

    @abstractmethod
    def fetch(self, relative: str) -> None:
        """Bring one file into `local`; one that is not where it belongs does not stay there either."""

    @abstractmethod
    def read(self, relative: str) -> Versioned | None:
        """A small file as it is where it belongs; None where there is none."""

    @abstractmethod
    def exchange(self, relative: str, content: bytes, expected: str | None) -> bool:
        """Write a small file where it still has the version `expected`, or is absent still where that is None.

        Of several writers that expect the same, on whatever hosts, one succeeds.

        Returns:
            Whether it was written.

        Raises:
            OSError: it cannot be written.
            TemporaryError: another process that replaces it takes long, or the store does not answer.
            InputMissingError, ConfigurationError: as `store_errors` says.
        """

    def children(self) -> list[str]:
        """The names directly below, sorted."""
        with store_errors(self.uri):
            infos = self.location.filesystem.get_file_info(FileSelector(self.location.path, allow_not_found=True))
        return sorted(info.base_name for info in infos)

    def remove(self, child: str) -> None:
        """Remove a file or folder below, and its local copy; one that is not there is no error."""
        target = self.location.below(child)
        with store_errors(target.uri):
            match file_type(target):
                case FileType.Directory:
                    target.filesystem.delete_dir(target.path)
                case FileType.File:
                    target.filesystem.delete_file(target.path)


class LocalFolder(Folder):
    """A folder of this machine or of a volume."""

    is_staged = False

    def push(self, relative_paths: Iterable[str | Path]) -> None:
        """Nothing is to be sent."""

    def pull(self, prefix: str = "") -> None:
        """Nothing is to be brought."""

    def fetch(self, relative: str) -> None:
        """Nothing is to be brought."""

    def read(self, relative: str) -> Versioned | None:
        """See Folder."""
        try:
            content = (self.local / relative).read_bytes()
        except FileNotFoundError:
            return None
        return Versioned(content, hashlib.sha256(content).hexdigest())

    def exchange(self, relative: str, content: bytes, expected: str | None) -> bool:
        """See Folder. A link decides who makes a file, for it never replaces one; a lock who replaces it."""
        path = self.local / relative
        try:
            if expected is None:
                return create_exclusively(path, content)
            with locked(path):
                found = self.read(relative)
                if found is None or found.version != expected:
                    return False
                write_atomically(path, content)
        except FileNotFoundError:
            # Who acquires a folder removes the drafts that lie there, so this one's author was late.
            return False
        return True


class StagedFolder(Folder):
    """A folder on S3, written to a staging folder of this machine."""

    is_staged = True

    def push(self, relative_paths: Iterable[str | Path]) -> None:
        """Send files, many at once."""
        self._transfer([file for path in relative_paths for file in _files(self.local / path)], self._send)

    def pull(self, prefix: str = "") -> None:
        """Fetch files, many at once."""
        source = self.location.below(prefix) if prefix else self.location
        self._transfer([info.path for info in files_below(source)], self._fetch)

    def fetch(self, relative: str) -> None:
        """See Folder."""
        try:
            write_atomically(self.local / relative, read_bytes(f"{self.uri}/{relative}"))
        except InputMissingError:
            (self.local / relative).unlink(missing_ok=True)

    def read(self, relative: str) -> Versioned | None:
        """See Folder. The version is the ETag."""
        from zerotune_trainer.storage import s3

        target = self.location.below(relative)
        with s3.s3_errors(target.uri):
            found = s3.read_object(*target.bucket_and_key)
        return None if found is None else Versioned(*found)

    def exchange(self, relative: str, content: bytes, expected: str | None) -> bool:
        """See Folder. The store decides, by a conditional write."""
        from zerotune_trainer.storage import s3

        target = self.location.below(relative)
        with s3.s3_errors(target.uri):
            return s3.exchange_object(*target.bucket_and_key, content, expected)

    def remove(self, child: str) -> None:
        """See Folder."""
        super().remove(child)
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
    folder = StagedFolder(location, staging) if location.local is None else LocalFolder(location, location.local)
    with store_errors(uri):
        folder.local.mkdir(parents=True, exist_ok=True)
    return folder


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _remove_local(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
