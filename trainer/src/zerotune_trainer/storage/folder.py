"""A folder that receives results, wherever that is: `storage.folders` has them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from zerotune_trainer.atomic import Content, write_atomically
from zerotune_trainer.storage.locations import Location
from zerotune_trainer.storage.once import POLL_SECONDS

_LATE_SECONDS = 15
"""How long a file that must be there is awaited: NFS keeps what it knows of a folder for seconds."""


class Versioned(NamedTuple):
    """A small file as it was read, and what distinguishes this version of it from any other."""

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

    def write(self, relative: str, content: Content, verify: Callable[[], None] = lambda: None) -> None:
        """Write a file, whole or not at all; when this returns it is where it belongs.

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

    @abstractmethod
    def children(self, below: str = "") -> list[str]:
        """The names directly below the folder, or below one in it, sorted; none where that is not there."""

    @abstractmethod
    def remove(self, child: str) -> None:
        """Remove a file or folder below, and its local copy; one that is not there is no error."""

    def await_files(self, relative_paths: Iterable[str]) -> list[str]:
        """Fetch files that must be there, as who wrote them has reported: what is late is asked for again for a while.

        A volume on the network may show a file of another host seconds after it was written, and so may a store.

        Returns:
            Those that are not there all the same.
        """
        missing, deadline = list(relative_paths), time.monotonic() + _LATE_SECONDS
        while missing := [path for path in missing if not self._arrives(path)]:
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL_SECONDS)
        return missing

    def _arrives(self, relative: str) -> bool:
        self.fetch(relative)
        return (self.local / relative).is_file()
