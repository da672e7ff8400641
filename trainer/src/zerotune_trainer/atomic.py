"""Small files that are whole or absent, whoever crashes when: draft, fsync, rename, fsync of the folder.

A draft has a name of its own, so that two writers of one file never share one: what is there in the end is what one of
them wrote, whole. Torch-free: the operator reads manifests.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_DRAFTS = ".*.draft"
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What a file system reports that has no hard links."""


Content = bytes | Iterator[bytes]
"""What a file is to hold: whole, or piece by piece where it is large."""


def write_atomically(path: Path, content: Content, verify: Callable[[], None] = lambda: None) -> None:
    """Write a file, and replace the one that is there. Its folder is made where it is missing.

    Args:
        path: The file.
        content: What it is to hold.
        verify: Raises where it may not be written any more. It is called between draft and rename: once `remove_drafts`
            has run, no writer that verified before can complete its file.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    with _draft(path, content) as draft:
        verify()
        draft.replace(path)
        sync(path.parent)


def create_exclusively(path: Path, content: bytes) -> bool:
    """Write a file where none is. Of several writers, on whatever hosts, one succeeds.

    Returns:
        Whether it was written; False where there was one already.

    Raises:
        OSError: it cannot be written, or the file system has no hard links (`NO_LINKS`).
    """
    with _draft(path, content) as draft:
        try:
            # Unlike a rename a link never replaces a file; unlike O_EXCL it shows the file only when it is whole.
            os.link(draft, path)
        except FileExistsError:
            # NFS reports so too where it repeats a request whose first answer was lost: the link may be ours.
            return draft.stat().st_nlink > 1
        finally:
            sync(path.parent)
    return True


def remove_drafts(folder: Path) -> None:
    """Remove what writers left directly below a folder that were cut off. One that still runs fails to write."""
    for draft in folder.glob(_DRAFTS):
        draft.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _draft(path: Path, content: Content) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.draft")
    try:
        with draft.open("xb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)
