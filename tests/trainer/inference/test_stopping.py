"""What a stopped or killed job keeps of a file that is not whole yet, and what it says of that."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import HashStore

from zerotune_trainer.errors import StoppedError


@pytest.fixture
def undisturbed(tmp_path: Path, stub_job: Callable[..., Any], stub_engine: Any) -> Callable[..., bytes]:
    def make(records: int) -> bytes:
        stub_job(records, outputFormat={}, output={"uri": (tmp_path / "undisturbed").as_uri()}).run()
        stub_engine.batches.clear()
        return (tmp_path / "undisturbed" / "part-000000.jsonl").read_bytes()

    return make


def test_a_stop_keeps_whole_batches_of_the_only_file(
    tmp_path: Path, stub_job: Callable[..., Any], stub_engine: Any, undisturbed: Callable[..., bytes]
) -> None:
    expected, job = undisturbed(20), stub_job(20, outputFormat={})
    for attempt, stop_after in enumerate((3, 4)):
        job.stop, job.store = threading.Event(), HashStore()
        stub_engine.batches.clear()
        begun = StopAfter(stop_after, job.stop)
        stub_engine.batches = begun
        # The batch in hand is lost, what was generated before it is kept.
        kept = 2 * (stop_after - 1) + (0 if attempt == 0 else 4)
        with pytest.raises(StoppedError, match=f"{kept} of 20 records are kept"):
            job.run(attempt)
    assert not list((tmp_path / "output").glob("part-*"))
    job.stop, job.store, stub_engine.batches = threading.Event(), HashStore(), []
    completion = job.run(attempt=2)
    assert [record for batch in stub_engine.batches for record in batch] == list(range(10, 20))
    assert (tmp_path / "output" / "part-000000.jsonl").read_bytes() == expected
    assert completion.progress.step == 20


class StopAfter(list[list[int]]):
    """Asks the job to stop when the batch of this number is begun."""

    def __init__(self, count: int, stop: threading.Event) -> None:
        super().__init__()
        self.count, self.stop = count, stop

    def append(self, batch: list[int]) -> None:
        super().append(batch)
        if len(self) == self.count:
            self.stop.set()


def test_a_killed_job_keeps_what_was_committed_by_time(
    tmp_path: Path,
    stub_job: Callable[..., Any],
    stub_engine: Any,
    undisturbed: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zerotune_trainer.inference.partial.COMMIT_SECONDS", 0.0)
    expected, job = undisturbed(20), stub_job(20, outputFormat={})
    stub_engine.seconds_per_batch = 0.05
    killed = job.start(0)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "output" / "work").glob("*.partial-*"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.kill()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    last = sorted((tmp_path / "output" / "work").glob("*.partial-*"))[-1]
    last.write_bytes(last.read_bytes()[:-5])
    stub_engine.seconds_per_batch = 0.0
    job.run(attempt=1)
    again = [record for batch in stub_engine.batches for record in batch]
    assert again == list(range(20))[-len(again) :]
    assert 2 <= len(again) < 20
    assert (tmp_path / "output" / "part-000000.jsonl").read_bytes() == expected
    assert {path.name for path in (tmp_path / "output").iterdir() if not path.name.startswith(".")} == {
        "manifest.json",
        "metrics.jsonl",
        "part-000000.jsonl",
        "report.html",
        "results.json",
    }
