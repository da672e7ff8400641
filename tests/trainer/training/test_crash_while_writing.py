"""A job cut off in the middle of writing: a checkpoint or an output is whole, or it does not count."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.manifest import differences, read_manifest

pytestmark = pytest.mark.slow


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll so often that what is awaited has hardly begun."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.0005)


def is_whole(folder: Path) -> bool:
    return (folder / "manifest.json").exists()


def frozen_while_writing(running: Any, checkpoints: Path, steps: list[int]) -> Path:
    """Freeze all ranks while they write one of these checkpoints, the first that can be caught at it."""
    for step in steps:
        draft, checkpoint = (folder / f"checkpoint-{step}" for folder in (checkpoints / ".attempt-0", checkpoints))
        wait_for(lambda draft=draft, done=checkpoint: done.exists() or any(map(Path.is_file, draft.rglob("*"))))
        running.signal(signal.SIGSTOP)
        if not checkpoint.exists():
            return draft
        running.signal(signal.SIGCONT)
    raise AssertionError(f"each of the checkpoints {steps} was complete before the ranks could be frozen")


@pytest.mark.parametrize("stage", [2, 3])
def test_kill_9_while_a_checkpoint_is_written_leaves_the_one_before(make_job: Any, expected: Any, stage: int) -> None:
    job = make_job(stage=stage)
    job.config["training"]["maxSteps"] = 8
    running = job.start()
    written = frozen_while_writing(running, job.checkpoints, [4, 6, 8])
    running.signal(signal.SIGKILL)
    assert running.end().exit_codes == [-9, -9]
    assert any(path.is_file() for path in written.rglob("*")) and not is_whole(written)
    before = f"checkpoint-{int(written.name.removeprefix('checkpoint-')) - 2}"
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    assert f"{written.name} was not completed: it is removed" in ended.log
    assert f"training begins at {before}" in ended.log
    assert (job.curve(), job.weights()) == expected(stage)


@pytest.mark.parametrize(("number", "codes"), [(signal.SIGTERM, [0, 0]), (signal.SIGKILL, [-9, -9])])
def test_an_output_cut_off_while_it_is_written_is_whole_or_absent(
    make_job: Any, expected: Any, number: int, codes: list[int]
) -> None:
    """A request to stop that comes so late lets the output be finished; a crash leaves none, and all checkpoints."""
    job = make_job()
    job.config["training"]["maxSteps"] = 8
    running = job.start()
    wait_for((job.output / ".attempt-0" / "config.json").exists)
    running.signal(signal.SIGSTOP)
    assert not is_whole(job.output), "the case does not test what it is for"
    running.signal(number)
    running.signal(signal.SIGCONT)
    ended = running.end()

    assert ended.exit_codes == codes, ended.failures
    assert is_whole(job.output) == (codes == [0, 0])
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.failures
    assert ("training begins at checkpoint-8" in ended.log) == (codes != [0, 0])
    manifest = read_manifest(job.output)
    assert manifest is not None and differences(job.output, manifest) == []
    assert (job.curve(), job.weights()) == expected(2)
