"""Every record once, in order, byte for byte as in an undisturbed run: whatever was killed or left half done."""

from __future__ import annotations

import os
import random
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.inference.output_files import parts
from zerotune_devtools.harness.killed_inference import Difference, KilledJob

pytestmark = pytest.mark.slow

FILES = 40
GREEDY = {"maxNewTokens": 30}
SAMPLED = {"maxNewTokens": 30, "doSample": True, "temperature": 1.5, "seed": 7}


@pytest.fixture
def options(files_of_three: Any) -> dict[str, Any]:
    """120 records."""
    options: dict[str, Any] = files_of_three(6, **SAMPLED)
    return options


@pytest.fixture
def undisturbed(options: dict[str, Any], undisturbed_output: Any) -> dict[str, bytes]:
    """What a job gives that nothing happens to."""
    content: dict[str, bytes] = undisturbed_output(options)
    assert len(content) == FILES
    return content


def markers(output: Path) -> int:
    return len(list(output.glob("work/part-*.json")))


@pytest.mark.parametrize("generation", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_d25_kill_9_at_any_time(
    tmp_path: Path, options: dict[str, Any], model_folder: Path, warm_ranks: None, generation: dict[str, Any]
) -> None:
    """The short form of `make kill-inference`."""
    job = KilledJob(tmp_path, model_folder, options | {"generation": generation}, random.Random(1))
    expected = job.run(1)
    assert len(expected) == FILES
    job.remove_output()
    for what in ("rank", "writer", "replicas"):
        assert job.kill(what), "no rank says that the job is done when it is not"
    assert len(job.content()) < FILES
    assert Difference.between(job.run(3), expected) == (0, 0, 0, 0)


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
