"""An attempt that still runs somewhere, such as on a node that was cut off, while the next one has begun."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.errors import SupersededError
from zerotune_trainer.manifest import differences, read_manifest

FILES = 60


def writers(output: Path) -> set[str]:
    """Whose texts the files hold: each file those of one attempt."""
    found = set()
    for path in output.glob("part-*.jsonl"):
        tags = {json.loads(line)["generation"][0] for line in path.read_text().splitlines()}
        assert len(tags) == 1, f"{path.name} is of two writers"
        found |= tags
    return found


def wait_for_files(output: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(output.glob("work/part-*.json"))) < count:
        assert time.monotonic() < deadline, "no files are written"
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("sleeps", [False, True], ids=["both run", "the old one wakes up when the new one is done"])
def test_the_older_attempt_ends_and_every_file_equals_its_marker(
    tmp_path: Path, stub_job: Callable[..., Any], stub_engine: Any, tokenizer: Any, sleeps: bool
) -> None:
    output, job = tmp_path / "output", stub_job(FILES, outputFormat={"rowsPerFile": 1})

    def is_attempt(name: str) -> Callable[[], None]:
        def tag() -> None:
            stub_engine.tag, stub_engine.seconds_per_batch = (
                tokenizer(name, add_special_tokens=False)["input_ids"],
                0.02,
            )

        return tag

    old = job.start(0, is_attempt("A"))
    wait_for_files(output, 10)
    if sleeps:
        os.kill(old.pid, signal.SIGSTOP)
    new = job.start(1, is_attempt("B"))
    new.join(60)
    manifest_then = (output / "manifest.json").read_bytes()
    if sleeps:
        os.kill(old.pid, signal.SIGCONT)
    old.join(60)
    assert (old.exitcode, new.exitcode) == (SupersededError.exit_code, 0)
    assert (output / "manifest.json").read_bytes() == manifest_then
    manifest = read_manifest(output)
    assert manifest is not None
    assert differences(output, manifest) == []
    assert (manifest.step, manifest.job.attempt) == (FILES, 1)
    assert writers(output) == {"A", "B"}
    assert not list(output.glob(".*.draft"))
