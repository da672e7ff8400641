"""Files of this machine and its volumes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from zerotune_trainer.storage.stores import Store, StoredFile


class LocalStore(Store):
    """Files of this machine and its volumes. Links are followed; errors are OSErrors."""

    def find(self, path: str) -> StoredFile | None:
        """See Store."""
        try:
            return _stored(path, Path(path).stat()) if Path(path).is_file() else None
        except FileNotFoundError:
            return None

    def is_folder(self, path: str) -> bool:
        """See Store."""
        return Path(path).is_dir()

    def files(self, folder: str, wanted: Callable[[str], bool], *, deep: bool) -> list[StoredFile]:
        """See Store. A file that links lead to besides its own path is there once, by its own path where that is."""
        best: dict[str, StoredFile] = {}
        base = os.path.realpath(folder)
        for path, target in sorted(_walk(folder, base, deep)) if Path(folder).is_dir() else ():
            is_own_path = target == os.path.join(base, os.path.relpath(path, folder))  # noqa: PTH118
            if wanted(path) and (is_own_path or target not in best):
                best[target] = _stored(path, Path(path).stat())
        return list(best.values())

    def open(self, path: str) -> io.RawIOBase:
        """See Store."""
        return Path(path).open("rb", buffering=0)

    def open_native(self, path: str) -> Any:
        """See Store."""
        import pyarrow  # Takes longer to import than a small file to read.

        return pyarrow.OSFile(path)


def _stored(path: str, stat: os.stat_result) -> StoredFile:
    return StoredFile(f"file://{path}", stat.st_size, str(stat.st_mtime_ns))


def _walk(folder: str, base: str, deep: bool) -> Iterator[tuple[str, str]]:
    """Files below a folder: their path, and that without links. A link to a folder above itself leads nowhere new."""
    pending = [(folder, base, frozenset({base}))]
    while pending:
        place, real, above = pending.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                path = f"{place.rstrip('/')}/{entry.name}"
                target = os.path.realpath(path) if entry.is_symlink() else f"{real.rstrip('/')}/{entry.name}"
                if entry.is_file():
                    yield path, target
                elif deep and entry.is_dir() and target not in above:
                    pending.append((path, target, above | {target}))
