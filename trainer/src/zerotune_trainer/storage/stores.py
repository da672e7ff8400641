"""The seam between the trainer and where files are: what a store must be able to do to be read from."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zerotune_trainer.storage.locations import Location


@dataclass(frozen=True)
class StoredFile:
    """A file, its bytes, and its version: the modification time in ns of a local file, the ETag on S3."""

    uri: str
    size: int
    version: str

    @property
    def name(self) -> str:
        """How messages name it: the path of a local file, else the URI."""
        return self.uri.removeprefix("file://")


class Store(ABC):
    """Files by path, as `Location.path` has it."""

    @abstractmethod
    def find(self, path: str) -> StoredFile | None:
        """The file at a path; None where none is."""

    @abstractmethod
    def is_folder(self, path: str) -> bool:
        """Whether a folder is there."""

    @abstractmethod
    def files(self, folder: str, wanted: Callable[[str], bool], *, deep: bool) -> list[StoredFile]:
        """The files below a folder, each once, in no order; none where it is not there.

        Args:
            folder: Its path.
            wanted: Whether a file is, by its path.
            deep: Whether folders below are listed too.
        """

    @abstractmethod
    def open(self, path: str) -> io.RawIOBase:
        """A file to read, at random too."""

    @abstractmethod
    def open_native(self, path: str) -> Any:
        """A file as pyarrow reads it best."""


def store_of(location: Location) -> Store:
    """The store that a location is a place of."""
    if location.scheme == "s3":
        from zerotune_trainer.storage.s3 import S3Store  # Few jobs need it, and boto3 takes time to import.

        return S3Store()
    from zerotune_trainer.storage.local import LocalStore

    return LocalStore()
