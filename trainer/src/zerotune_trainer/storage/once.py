"""A folder that many processes need and one makes: complete or absent, whoever crashes when."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

POLL_SECONDS = 0.2
"""How often a process that waits for another looks again; between two looks it takes signals."""


def complete_or_absent(folder: Path, fill: Callable[[Path], None]) -> Path:
    """A folder that `fill` makes, once for all processes that share its parent; others wait. A crash leaves none."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock"), poll_interval=POLL_SECONDS):
        if not folder.is_dir():
            draft = folder.with_name(f".{folder.name}.draft")
            # Whoever left a draft is dead: it held the lock.
            shutil.rmtree(draft, ignore_errors=True)
            _make(draft, fill)
            draft.replace(folder)
    return folder


def _make(draft: Path, fill: Callable[[Path], None]) -> None:
    draft.mkdir()
    try:
        fill(draft)
        for path in filter(Path.is_file, draft.rglob("*")):
            with path.open("rb") as file:
                os.fsync(file.fileno())
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
