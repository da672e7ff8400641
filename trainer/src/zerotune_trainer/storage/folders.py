"""A results folder: where a job writes, and how what it wrote gets to where it belongs.

Folder
+-- LocalFolder    a folder of this machine or of a volume: what is written is there at once, for all hosts
+-- StagedFolder   a folder on S3: written to a folder of this machine, and sent
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zerotune_trainer.atomic import NO_LINKS, create_exclusively, write_atomically
from zerotune_trainer.storage.folder import Folder, Versioned
from zerotune_trainer.storage.locations import locate, store_errors
from zerotune_trainer.storage.once import locked

if TYPE_CHECKING:
    from zerotune_trainer.storage.s3 import S3Store

T = TypeVar("T")

_TRANSFERS = 8
"""Files that are sent or fetched at once."""


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
        """See Folder. A link decides who makes a file, for it never replaces one; a lock who replaces it.

        Where a file system has no links, the lock decides that too.
        """
        path = self.local / relative
        try:
            if expected is None and (made := _linked(path, content)) is not None:
                return made
            with locked(path):
                found = self.read(relative)
                if (found and found.version) != expected:
                    return False
                write_atomically(path, content)
        except FileNotFoundError:
            # The folder is removed meanwhile, as the work of a job is that has its result: this author was late.
            return False
        return True

    def children(self, below: str = "") -> list[str]:
        """See Folder."""
        folder = self.local / below
        with store_errors(self.uri):
            return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def remove(self, child: str) -> None:
        """See Folder."""
        with store_errors(f"{self.uri}/{child}"):
            _remove_local(self.local / child)


class StagedFolder(Folder):
    """A folder on S3, written to a staging folder of this machine."""

    is_staged = True

    def push(self, relative_paths: Iterable[str | Path]) -> None:
        """Send files, many at once."""
        self._transfer([file for path in relative_paths for file in _files(self.local / path)], self._send)

    def pull(self, prefix: str = "") -> None:
        """Fetch files, many at once."""
        source = self.location.below(prefix) if prefix else self.location
        found = self._store.files(source.path, lambda _: True, deep=True)
        self._transfer([file.uri.removeprefix("s3://") for file in found], self._fetch)

    def fetch(self, relative: str) -> None:
        """See Folder."""
        found = self.read(relative)
        if found is None:
            (self.local / relative).unlink(missing_ok=True)
        else:
            write_atomically(self.local / relative, found.content)

    def read(self, relative: str) -> Versioned | None:
        """See Folder. The version is the ETag."""
        found = self._store.read(self.location.below(relative).path)
        return None if found is None else Versioned(*found)

    def exchange(self, relative: str, content: bytes, expected: str | None) -> bool:
        """See Folder. The store decides, by a conditional write."""
        return self._store.exchange(self.location.below(relative).path, content, expected)

    def children(self, below: str = "") -> list[str]:
        """See Folder."""
        return self._store.names((self.location.below(below) if below else self.location).path)

    def remove(self, child: str) -> None:
        """See Folder."""
        self._store.remove(self.location.below(child).path)
        _remove_local(self.local / child)

    @property
    def _store(self) -> S3Store:
        from zerotune_trainer.storage.s3 import S3Store  # Few jobs need it, and boto3 takes time to import.

        return S3Store()

    def _transfer(self, items: list[T], one: Callable[[T], None]) -> None:
        from zerotune_trainer.storage.s3_errors import s3_errors

        with store_errors(self.uri), s3_errors(self.uri), ThreadPoolExecutor(_TRANSFERS) as pool:
            list(pool.map(one, items))

    def _send(self, file: Path) -> None:
        self._store.send(file, self.location.below(file.relative_to(self.local).as_posix()).path)

    def _fetch(self, path: str) -> None:
        self._store.fetch(path, self.local / path.removeprefix(f"{self.location.path}/"))


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


def _linked(path: Path, content: bytes) -> bool | None:
    try:
        return create_exclusively(path, content)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return None


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _remove_local(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
