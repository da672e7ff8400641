"""Small files that are whole or absent, whoever crashes when: draft, fsync, rename, fsync of the folder.

A draft has a name of its own, so that two writers of one file never share one: what is there in the end is what one of
them wrote, whole. A draft that another process removes, as one of a writer that was cut off, is written anew.
Torch-free: the operator reads manifests.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

_DRAFTS = ".*.draft"
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What a file system reports that has no hard links."""
_MOST_DRAFTS = 10
"""How often a file is written whose drafts others remove."""

Content = bytes | Callable[[], Iterable[bytes]]
"""What a file is to hold: whole, or what gives it piece by piece where it is large."""

_Result = TypeVar("_Result")


def write_atomically(path: Path, content: Content, verify: Callable[[], None] = lambda: None) -> None:
    """Write a file, and replace the one that is there. Its folder is made where it is missing.

    Args:
        path: The file.
        content: What it is to hold.
        verify: Raises where it may not be written any more. It is called between draft and rename: once `remove_drafts`
            has run, no writer that verified before can complete its file before it verifies again.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """

    def replace(draft: Path) -> None:
        verify()
        draft.replace(path)
        sync(path.parent)

    _with_draft(path, content, replace)


def create_exclusively(path: Path, content: bytes) -> bool:
    """Write a file where none is. Of several writers, on whatever hosts, one succeeds.

    Returns:
        Whether it was written; False where there was one already.

    Raises:
        OSError: it cannot be written, or the file system has no hard links (`NO_LINKS`).
    """

    def link(draft: Path) -> bool:
        try:
            # Unlike a rename a link never replaces a file; unlike O_EXCL it shows the file only when it is whole.
            os.link(draft, path)
        except FileExistsError:
            # NFS reports so too where it repeats a request whose first answer was lost: the link may be ours.
            return draft.stat().st_nlink > 1
        finally:
            sync(path.parent)
        return True

    return _with_draft(path, content, link)


def remove_drafts(folder: Path) -> None:
    """Remove what writers left directly below a folder that were cut off. One that still runs writes anew."""
    for draft in folder.glob(_DRAFTS):
        draft.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _with_draft(path: Path, content: Content, put: Callable[[Path], _Result]) -> _Result:
    """What `put` makes of a draft; it raises FileNotFoundError where another process has removed that."""
    for _ in range(_MOST_DRAFTS - 1):
        try:
            with _draft(path, content) as draft:
                return put(draft)
        except FileNotFoundError:
            continue
    with _draft(path, content) as draft:
        return put(draft)


@contextmanager
def _draft(path: Path, content: Content) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.draft")
    try:
        with draft.open("xb") as file:
            file.writelines([content] if isinstance(content, bytes) else content())
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)
