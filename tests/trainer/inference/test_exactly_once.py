"""Every record once, in order, byte for byte as in an undisturbed run: whatever was killed or left half done."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

KILLS = 4
FILES = 40
SAMPLED = {"maxNewTokens": 30, "doSample": True, "temperature": 1.5, "seed": 7}


@pytest.fixture
def options(weaknesses: list[dict[str, Any]], write_jsonl: Any) -> dict[str, Any]:
    """120 records in files of 3, sampled: the hardest to repeat."""
    rows = [entry | {"copy": copy} for copy in range(6) for entry in weaknesses[:20]]
    data = {"uris": [write_jsonl(rows).as_uri()], "columns": {"prompt": "name"}}
    return {"data": data, "generation": SAMPLED, "outputFormat": {"rowsPerFile": 3}, "perDeviceBatchSize": 2}


@pytest.fixture
def undisturbed(tmp_path: Path, options: dict[str, Any], job: Any, run_job: Any) -> dict[str, bytes]:
    """The output of a job on one rank; the folder is empty again afterwards."""
    outcome = run_job(job(**options, ranks=1))
    assert outcome.exit_codes == [0], outcome.failure
    content = parts(tmp_path / "output")
    shutil.rmtree(tmp_path / "output")
    assert len(content) == FILES
    return content


def parts(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(output.glob("part-*"))}


def markers(output: Path) -> int:
    return len(list(output.glob("work/part-*.json")))


def test_d25_kill_9_at_any_time(
    tmp_path: Path, options: dict[str, Any], undisturbed: dict[str, bytes], job: Any, run_job: Any, start_ranks: Any
) -> None:
    chance = random.Random(1)
    output = tmp_path / "output"
    for number in range(KILLS):
        wanted = markers(output) + chance.randint(1, 3)
        ranks = start_ranks(job(**options, ranks=2))
        ranks.wait_until(lambda wanted=wanted: markers(output) >= wanted)
        time.sleep(chance.random() / 8)
        ranks.processes[number % 2].kill()
        time.sleep(chance.random() / 8)
        ranks.kill()
        codes = ranks.end().exit_codes
        assert codes[number % 2] == -signal.SIGKILL
        assert 0 not in codes, "no rank says that the job is done when it is not"
        assert not (output / "manifest.json").exists()
    assert wanted <= markers(output) < FILES
    outcome = run_job(job(**options, ranks=3))
    assert outcome.exit_codes == [0, 0, 0], outcome.failure
    assert parts(output) == undisturbed


def test_sigterm_keeps_whole_chunks_and_the_next_attempt_does_the_rest(
    tmp_path: Path, options: dict[str, Any], undisturbed: dict[str, bytes], job: Any, run_job: Any, start_ranks: Any
) -> None:
    output = tmp_path / "output"
    ranks = start_ranks(job(**options, ranks=2))
    ranks.wait_until(lambda: markers(output) >= 3)
    for process in ranks.processes:
        os.kill(process.pid, signal.SIGTERM)
    outcome = ranks.end()
    assert outcome.exit_codes == [143, 143]
    assert outcome.failure is not None
    assert outcome.failure.failure_class == "Stopped"
    kept = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")}
    assert 3 <= len(kept) < FILES
    outcome = run_job(job(**options, ranks=1))
    assert outcome.exit_codes == [0], outcome.failure
    assert parts(output) == undisturbed
    assert {name: (output / name).stat().st_mtime_ns for name in kept} == kept, "what was whole was not done again"


@pytest.mark.parametrize("phase", ["data", "model", "generating", "saving"])
def test_sigterm_in_any_phase_ends_the_job_whole_or_stopped(
    tmp_path: Path,
    options: dict[str, Any],
    undisturbed: dict[str, bytes],
    job: Any,
    run_job: Any,
    start_ranks: Any,
    phase: str,
) -> None:
    output = tmp_path / "output"
    ranks = start_ranks(job(**options, ranks=2))
    reached = ranks.heartbeats[:1] if phase == "saving" else ranks.heartbeats
    ranks.wait_until(lambda: all(any(heartbeat.phase == phase for heartbeat in heartbeats) for heartbeats in reached))
    for process in ranks.processes:
        os.kill(process.pid, signal.SIGTERM)
    outcome = ranks.end()
    assert outcome.exit_codes == ([0, 0] if phase == "saving" else [143, 143]), outcome.failure
    assert (output / "manifest.json").exists() == (phase == "saving")
    outcome = run_job(job(**options, ranks=2))
    assert outcome.exit_codes == [0, 0], outcome.failure
    assert parts(output) == undisturbed


def test_a_full_disk_keeps_whole_chunks_and_the_next_attempt_does_the_rest(
    tmp_path: Path, options: dict[str, Any], undisturbed: dict[str, bytes], job: Any, run_job: Any, start_ranks: Any
) -> None:
    """A limit on the size of a rank's files stands for the disk: writing ends in the middle of one."""
    output = tmp_path / "output"
    ranks = start_ranks(job(**options, ranks=2))
    ranks.wait_until(lambda: markers(output) >= 3)
    resource.prlimit(ranks.processes[1].pid, resource.RLIMIT_FSIZE, (300, 300))
    outcome = ranks.end()
    assert outcome.exit_codes[1] == 75, outcome.failure
    assert outcome.failure is not None
    assert f"{output.as_uri()} cannot be written" in outcome.failure.message
    assert "disk is not full" in outcome.failure.hint
    assert not (output / "manifest.json").exists()
    assert 3 <= markers(output) < FILES
    outcome = run_job(job(**options, ranks=2))
    assert outcome.exit_codes == [0, 0], outcome.failure
    assert parts(output) == undisturbed


def test_what_a_crash_leaves_half_done_is_done_again(
    tmp_path: Path, options: dict[str, Any], undisturbed: dict[str, bytes], job: Any, run_job: Any, start_ranks: Any
) -> None:
    output = tmp_path / "output"
    ranks = start_ranks(job(**options, ranks=2))
    ranks.wait_until(lambda: markers(output) >= 5)
    ranks.kill()
    first, second, *_ = sorted(output.glob("work/part-*.json"))
    first.unlink()
    (output / f"{first.stem}.jsonl").write_text("half a li")
    second.unlink()
    (output / f"{second.stem}.jsonl").unlink()
    (output / ".part-000009.jsonl.draft").write_text("draft")
    outcome = run_job(job(**options, ranks=1))
    assert outcome.exit_codes == [0], outcome.failure
    assert parts(output) == undisturbed
    assert not list(output.glob(".part-*"))
