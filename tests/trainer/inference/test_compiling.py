"""DeepSpeed's operators are compiled where they are not installed, also after a process was killed at it."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from zerotune_trainer.async_io import compiling


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What torch leaves of a process that was killed as it compiled an operator."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    path = tmp_path / "async_io" / "lock"
    path.parent.mkdir()
    path.touch()
    return path


def test_a_lock_of_a_killed_process_is_removed(lock: Path) -> None:
    with compiling(["pin_memory", "async_io"]):
        assert not lock.exists()


def test_a_process_that_compiles_keeps_its_lock(lock: Path) -> None:
    context = multiprocessing.get_context("fork")
    begun, ended = context.Event(), context.Event()
    process = context.Process(target=_compile, args=(lock, begun, ended))
    process.start()
    assert begun.wait(60)
    second = context.Process(target=_enter)
    second.start()
    second.join(0.5)
    assert second.is_alive() and lock.exists()
    ended.set()
    second.join(60)
    process.join(60)
    assert (process.exitcode, second.exitcode) == (0, 0)


def _compile(lock: Path, begun: Event, ended: Event) -> None:
    with compiling(["async_io"]):
        lock.touch()
        begun.set()
        assert ended.wait(60)
        lock.unlink()


def _enter() -> None:
    with compiling(["async_io"]):
        time.sleep(0)
