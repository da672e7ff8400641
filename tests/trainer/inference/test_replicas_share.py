"""How replicas of a job share its work on one output folder, with a stub that generates: who is lost, slow or late."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.inference.claims import Claims
from zerotune_trainer.manifest import differences, read_manifest

FILES = 60
RESULT = {"manifest.json", "metrics.jsonl", "report.html", "results.json"}


@pytest.fixture
def replicas(stub_job: Any, stub_engine: Any, write_jsonl: Any) -> Iterator[Callable[..., Any]]:
    """Starts a replica of a job of 60 files in a process of its own: `replicas(1, of=3, seconds=0.05)`."""
    started, jobs = [], {}
    rows = [{"id": number, "prompt": f"weakness {number}"} for number in range(FILES)]
    data = {"uris": [write_jsonl(rows).as_uri()]}

    def start(number: int, of: int = 2, seconds: float = 0.02, attempt: int = 0) -> Any:
        if of not in jobs:  # Others may be reading the folder.
            jobs[of] = stub_job(replicas=of, data=data, outputFormat={"rowsPerFile": 1})

        def pace() -> None:
            stub_engine.seconds_per_batch = seconds

        started.append(jobs[of].start(attempt, pace, replica=number))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def whole(output: Path) -> list[dict[str, Any]]:
    """The markers of the files that are whole."""
    found = [path.read_text() for path in output.glob("work/part-*[0-9].json")]
    return [json.loads(text.splitlines()[1]) for text in found]


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def end(*processes: Any) -> list[int]:
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def assert_is_result(output: Path) -> None:
    """Every record once, in order, as the stub makes it; the manifest is true; nothing else is left."""
    manifest = read_manifest(output)
    assert manifest is not None
    assert (manifest.step, differences(output, manifest)) == (FILES, [])
    lines = [line for path in sorted(output.glob("part-*")) for line in path.read_text().splitlines()]
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows] == list(range(FILES))
    assert all(row["generation"] for row in rows)
    names = {path.name for path in output.iterdir() if not path.name.startswith(".")}
    assert names == RESULT | {path.name for path in output.glob("part-*")}
    assert not list(output.glob(".*.draft"))


def test_a_slow_replica_does_not_hold_the_others_up(output: Path, replicas: Any) -> None:
    slow, fast = replicas(0, seconds=600), replicas(1)
    until(lambda: len(whole(output)) == FILES - 1)
    slow.kill()
    assert end(fast) == [0]
    assert_is_result(output)


@pytest.mark.parametrize("paused", [False, True], ids=["killed", "frozen"])
def test_what_a_lost_replica_has_begun_is_taken_over(output: Path, replicas: Any, paused: bool) -> None:
    lost, other = replicas(0, seconds=0.2), replicas(1, seconds=0.1)
    until(lambda: len(whole(output)) >= 6)
    os.kill(lost.pid, signal.SIGSTOP if paused else signal.SIGKILL)
    assert end(other) == [0]
    assert_is_result(output)
    if paused:
        os.kill(lost.pid, signal.SIGCONT)
        assert end(lost) == [0]
        assert_is_result(output)


def test_a_replica_that_comes_back_takes_part_at_once(output: Path, replicas: Any) -> None:
    lost, other = replicas(0, seconds=0.1), replicas(1, seconds=0.1)
    until(lambda: len(whole(output)) >= 6)
    lost.kill()
    again = replicas(0, seconds=0.1)
    assert end(other, again) == [0, 0]
    assert_is_result(output)


def test_all_are_lost_and_fewer_and_more_go_on(output: Path, replicas: Any) -> None:
    for attempt, count in enumerate((2, 1)):
        wanted = len(whole(output)) + 8
        started = [replicas(number, count, 0.1, attempt) for number in range(count)]
        until(lambda wanted=wanted: len(whole(output)) >= wanted)
        for process in started:
            process.kill()
    kept = {path.name: path.stat().st_mtime_ns for path in output.glob("work/part-*[0-9].json")}
    parts = {name.replace("json", "jsonl"): (output / name.replace("json", "jsonl")).stat().st_ino for name in kept}
    assert end(*[replicas(number, 3, 0.01, 2) for number in range(3)]) == [0, 0, 0]
    assert_is_result(output)
    assert {name: (output / name).stat().st_ino for name in parts} == parts, "what was whole was not made again"


def test_work_that_is_cleared_away_while_a_marker_is_written_is_no_failure(
    output: Path, stub_job: Any, write_jsonl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another replica does that took the shard over, once the result is there."""
    data = {"uris": [write_jsonl([{"id": number, "prompt": f"weakness {number}"} for number in range(FILES)]).as_uri()]}
    verify, calls = Claims.verify, []

    def verify_then_clear(claims: Claims, name: str) -> None:
        verify(claims, name)
        calls.append(name)
        if len(calls) == 4:
            assert calls[2] == calls[3], "the second time is that of the marker"
            shutil.rmtree(output / "work")

    monkeypatch.setattr(Claims, "verify", verify_then_clear)
    stub_job(replicas=2, data=data, outputFormat={"rowsPerFile": 1}).run(replica=0)
    assert_is_result(output)


def test_one_that_comes_late_finds_the_result(output: Path, replicas: Any) -> None:
    assert end(replicas(1)) == [0]
    assert_is_result(output)
    assert end(replicas(0)) == [0]
    assert_is_result(output)
