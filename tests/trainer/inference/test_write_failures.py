"""A full disk or a kill at every single write of an InferenceJob: the next attempt makes up for it."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import HashStore

pytestmark = pytest.mark.slow
WRITES = ("open", "os.rename", "os.link", "os.mkdir")
"""Audit events of Python that put something into a folder; the first is told apart by its flags."""


def is_write(event: str, arguments: tuple[Any, ...], below: str) -> bool:
    if event not in WRITES or not str(arguments[0]).startswith(below):
        return False
    if event == "os.mkdir":
        # Where there is one already, a full disk is not noticed.
        return not os.path.lexists(arguments[0])
    return event != "open" or bool(int(arguments[2]) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def at_write(number: int, below: Path, action: Callable[[], None], happened: Any) -> Callable[[], None]:
    """Installs in a process what happens instead of its write of that number, from 0; sets `happened` then."""

    def install() -> None:
        count = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if is_write(event, arguments, str(below)):
                count += 1
                if count == number + 1:
                    happened.value = 1
                    action()

        sys.addaudithook(hook)

    return install


def fill_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def parts(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(output.glob("part-*"))}


@pytest.mark.parametrize(("action", "exit_code"), [(fill_disk, 75), (kill, -signal.SIGKILL)], ids=["full", "killed"])
def test_a_failure_at_any_write_costs_nothing(
    tmp_path: Path,
    stub_job: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    action: Callable[[], None],
    exit_code: int,
) -> None:
    monkeypatch.setattr("zerotune_trainer.inference.partial.COMMIT_SECONDS", 0.0)
    output, job = tmp_path / "output", stub_job(6)
    job.run()
    undisturbed, number = parts(output), 0
    happened = multiprocessing.Value("i", 1)
    while happened.value:
        happened.value = 0
        shutil.rmtree(output)
        failing = job.start(0, at_write(number, output, action, happened))
        failing.join(60)
        assert failing.exitcode == (exit_code if happened.value else 0), f"write {number}"
        assert failing.exitcode == 0 or action is kill or not (output / "manifest.json").exists()
        job.store = HashStore()
        assert job.run(attempt=1).progress.step == 6
        assert parts(output) == undisturbed, f"write {number}"
        assert not list(output.rglob("*.draft"))
        number += 1
    assert number > 20, "the folder, owner, plan, commits, files, markers, figures and manifest are writes"
