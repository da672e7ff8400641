"""A process that dies, or finds the disk full, while it acquires a folder or replaces a file."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.storage.contenders import identity, in_a_process
from zerotune_trainer.errors import TemporaryError
from zerotune_trainer.ownership import Ownership, open_output, writing_errors
from zerotune_trainer.storage import Folder


@pytest.mark.parametrize("attempt", [0, 1], ids=["first claim", "takeover"])
@pytest.mark.parametrize("limit", [0, 10, 50])
def test_a_full_disk_while_acquiring_is_passed_by_the_next_attempt(tmp_path: Path, attempt: int, limit: int) -> None:
    """A limit on the size of files stands for the disk."""
    folder = open_output(f"file://{tmp_path}/out", tmp_path)
    for earlier in range(attempt):
        Ownership(folder, identity(attempt=earlier)).acquire()

    def acquire() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(TemporaryError, match="cannot be written"):
            Ownership(folder, identity(attempt=attempt)).acquire()

    assert in_a_process(acquire) == 0
    Ownership(folder, identity(attempt=attempt + 1)).acquire()
    assert not list(folder.local.glob("*.draft"))


@pytest.mark.slow
@pytest.mark.parametrize("attempt", [0, 1], ids=["first claim", "takeover"])
def test_kill_9_at_every_call_of_acquiring_is_passed_by_the_next_attempt(tmp_path: Path, attempt: int) -> None:
    """Every call of the system that changes or syncs a file, one after the other, until a run needs no more of them."""
    for count in range(1, 60):
        folder = open_output(f"file://{tmp_path}/{count}", tmp_path)
        for earlier in range(attempt):
            Ownership(folder, identity(attempt=earlier)).acquire()

        def acquire(folder: Folder = folder, count: int = count) -> None:
            sys.addaudithook(_Killer(str(folder.local), count))
            Ownership(folder, identity(attempt=attempt)).acquire()

        code = in_a_process(acquire)
        Ownership(folder, identity(attempt=attempt + 1)).acquire()
        Ownership(folder, identity(attempt=attempt + 1)).verify()
        if code == 0:
            assert count > 5, "the case does not test what it is for"
            return
        assert code == -signal.SIGKILL
        assert not list(folder.local.glob(".*.draft"))
    raise AssertionError("acquiring did not end")


class _Killer:
    """An audit hook that kills its process at its count-th event about a file of a folder."""

    def __init__(self, folder: str, count: int) -> None:
        self.folder, self.left = folder, count

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.link", "os.rename", "os.remove") and str(arguments[0]).startswith(self.folder):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)


def test_kill_9_at_every_call_of_replacing_a_file_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    old, new = b"old" * 1000, b"new" * 1000
    for count in range(1, 60):
        folder = open_output(f"file://{tmp_path}/{count}", tmp_path)
        folder.write("work/manifest.json", old)

        def replace(folder: Folder = folder, count: int = count) -> None:
            sys.addaudithook(_Killer(str(folder.local), count))
            folder.write("work/manifest.json", new)

        code = in_a_process(replace)
        assert (folder.local / "work/manifest.json").read_bytes() in (old, new)
        if code == 0:
            assert count > 3, "the case does not test what it is for"
            return
        assert code == -signal.SIGKILL
        folder.write("work/manifest.json", new)
        assert (folder.local / "work/manifest.json").read_bytes() == new
    raise AssertionError("writing did not end")


@pytest.mark.parametrize("limit", [0, 100])
def test_a_full_disk_while_replacing_a_file_leaves_the_old_one(tmp_path: Path, limit: int) -> None:
    folder = open_output(f"file://{tmp_path}/out", tmp_path)
    folder.write("manifest.json", b"old")

    def replace() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(TemporaryError, match="cannot be written"), writing_errors(folder.uri):
            folder.write("manifest.json", b"new" * 1000)

    assert in_a_process(replace) == 0
    assert {path.name: path.read_bytes() for path in folder.local.iterdir()} == {"manifest.json": b"old"}
