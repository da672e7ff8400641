"""What a rank that has finished reports to its launcher while it waits for one that is busy."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from torch.distributed import HashStore

from zerotune_trainer.context import RankContext
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.inference.tracking import REPORT_SECONDS, Counters, ProgressTracker
from zerotune_trainer.inference.verification import Work
from zerotune_trainer.progress import Reporter

pytestmark = pytest.mark.slow

HOSTFILE = Hostfile.parse("a slots=2\n")


class Reports:
    """A Reporter that counts."""

    def __init__(self) -> None:
        self.count = 0

    def step(self, step: int) -> None:
        self.count += 1

    def progress(self, progress: Any) -> None:
        self.count += 1


def tracker_of(rank: int, store: HashStore) -> tuple[ProgressTracker, Reports]:
    reports = Reports()
    context = RankContext(Path(), HOSTFILE, HOSTFILE.master, rank, cast(Reporter, reports), threading.Event())
    work = SimpleNamespace(done_records=0, failed_records=0, plan=SimpleNamespace(records=10))
    return ProgressTracker(context, Counters(store), cast(Work, work)), reports


@pytest.mark.parametrize("waiting", [0, 1])
def test_a_rank_that_waits_gets_on_as_long_as_the_busy_one_does(waiting: int) -> None:
    store = HashStore()
    (busy, _), (idle, reports) = tracker_of(1 - waiting, store), tracker_of(waiting, store)
    waiter = threading.Thread(target=idle.wait_for_all, daemon=True)
    waiter.start()
    _keep(busy, is_alive=True)
    reported = reports.count
    assert reported >= 3, "the batch of the busy rank has come to no end yet"
    _keep(busy, is_alive=False)
    assert reports.count <= reported + 1, "a busy rank that has stopped is not hidden by the one that waits"
    busy.wait_for_all()
    waiter.join(5)
    assert not waiter.is_alive()


def _keep(busy: ProgressTracker, *, is_alive: bool) -> None:
    """Let the batch of a rank take its time, as its engine does: a heartbeat for each token, or none."""
    end = time.monotonic() + 4 * REPORT_SECONDS
    while time.monotonic() < end:
        if is_alive:
            busy.heartbeat()
        time.sleep(0.05)
