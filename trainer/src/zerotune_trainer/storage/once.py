"""What many processes need and one does at a time, whoever crashes when."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from zerotune_trainer.errors import TemporaryError

POLL_SECONDS = 0.2
"""How often a process that waits for another checks again; in between it takes signals."""
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
"""What a file system reports that has no locks, such as NFS that is mounted without them."""
_LOCK_SECONDS = 60
"""How long a process waits for another that replaces the same file, which takes milliseconds unless that is frozen."""
_log = logging.getLogger(__name__)


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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes that lock the same path out meanwhile, those of other hosts too where the volume has locks.

    The kernel, or the server of the volume, frees the lock of a process that dies. Where the file system has no locks,
    this warns and goes on without: a job is not to fail for what two writers at the same moment would need.

    Raises:
        TemporaryError: another process holds the lock for long.
    """
    lock = FileLock(path.with_name(f"{path.name}.lock"), _LOCK_SECONDS, poll_interval=POLL_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise TemporaryError(
            f"another process has held {lock.lock_file} for {_LOCK_SECONDS} s", "see whether another attempt still runs"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning("%s has no locks: %s", path.parent, error.strerror)
    try:
        yield
    finally:
        lock.release()


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
