"""A full disk or a kill at every single write of an InferenceJob: the next attempt makes up for it."""

from __future__ import annotations

import functools
import multiprocessing
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import HashStore

from zerotune_devtools.harness.write_faults import at_write, fill_disk, kill

pytestmark = pytest.mark.slow


def noted(action: Callable[[], None], happened: Any) -> None:
    """Does something, and sets `happened` before."""
    happened.value = 1
    action()


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
        failing = job.start(0, functools.partial(at_write, number, output, functools.partial(noted, action, happened)))
        failing.join(60)
        assert failing.exitcode == (exit_code if happened.value else 0), f"write {number}"
        assert failing.exitcode == 0 or action is kill or not (output / "manifest.json").exists()
        job.store = HashStore()
        assert job.run(attempt=1).progress.step == 6
        assert parts(output) == undisturbed, f"write {number}"
        assert not list(output.rglob("*.draft"))
        number += 1
    assert number > 20, "the folder, owner, plan, commits, files, markers, figures and manifest are writes"
