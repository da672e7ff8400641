"""The ranks' common count of what is done, and what a rank reports to its launcher.

Counts are for whoever watches, and hand out work; they prove nothing. What is done is what `verification.py` finds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from torch.distributed.distributed_c10d import PrefixStore, Store

from zerotune_trainer.context import RankContext
from zerotune_trainer.errors import StoppedError
from zerotune_trainer.inference.verification import Work
from zerotune_trainer.progress import Progress

REPORT_SECONDS = 1.0


@dataclass(frozen=True)
class Count:
    """What all ranks have done in this round."""

    records: int
    failed: int
    tokens: int
    heartbeats: int
    """Grows while a rank is busy, however long its batch takes."""
    ranks_finished: int


class Counters:
    """Counters that all ranks share, in the store of the rendezvous. It lives in rank 0 and answers at once.

    Args:
        store: The store.
        number: The round of work that is counted.
    """

    def __init__(self, store: Store, number: int = 0) -> None:
        self._store = PrefixStore(f"inference/{number}", store)

    def next_task(self) -> int:
        """A number from 0 that no other rank gets: which piece of the remaining work to do. A fast rank draws more."""
        return self._store.add("tasks", 1) - 1

    def add(self, records: int, failed: int, tokens: int) -> None:
        """Count what this rank has done."""
        self._store.add("records", records)
        self._store.add("failed", failed)
        self._store.add("tokens", tokens)

    def heartbeat(self) -> None:
        """Say that this rank is busy."""
        self._store.add("heartbeats", 1)

    def finish(self) -> None:
        """Say that this rank will do no more."""
        self._store.add("finished", 1)

    def decide(self, outcome: Literal["whole", "stopped"]) -> bool:
        """Decide how the round ends. The rank that says it first decides; whether that was the same `outcome`."""
        return self._store.compare_set("outcome", "", outcome) == outcome.encode()

    def count(self) -> Count:
        """What all ranks have done so far."""
        names = ("records", "failed", "tokens", "heartbeats", "finished")
        return Count(*(self._store.add(name, 0) for name in names))


@dataclass
class ProgressTracker:
    """Reports that this rank is alive, from rank 0 also how far the job is, and observes a request to stop.

    Args:
        context: The rank.
        counters: The common count.
        work: The job's work, and what of it was done before.
    """

    context: RankContext
    counters: Counters
    work: Work
    _reported: float = field(default=0.0, init=False)
    _last: Count = field(default=Count(0, 0, 0, 0, 0), init=False)
    _start: float = field(default_factory=time.monotonic, init=False)

    def heartbeat(self) -> None:
        """A token, or a batch, was made.

        Raises:
            StoppedError: the rank was asked to stop.
        """
        self._stop_if_asked()
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self.counters.heartbeat()
            self._report(self.counters.count())

    def count(self, *, records: int, failed: int, tokens: int) -> None:
        """Count what this rank has done.

        Raises:
            StoppedError: the rank was asked to stop.
        """
        self.counters.add(records, failed, tokens)
        self.heartbeat()

    def failed(self) -> int:
        """Records that became error records, on all ranks and in earlier attempts."""
        return self.work.failed_records + self.counters.count().failed

    def next_task(self) -> int:
        """As `Counters.next_task`.

        Raises:
            StoppedError: the rank was asked to stop.
        """
        self._stop_if_asked()
        return self.counters.next_task()

    def wait(self, seconds: float) -> None:
        """Wait for what another rank does, which counts as getting on. Who is asked to stop waits on: the others of its
        replica stop with it when they next generate together.
        """
        time.sleep(seconds)
        self._report_others()

    def wait_for_all(self) -> None:
        """Say that this rank has finished, and wait until every rank has. What the others do counts as getting on.

        Raises:
            StoppedError: a rank was asked to stop before all had finished.
        """
        self.counters.finish()
        while self.counters.count().ranks_finished < self.context.world_size:
            self._report_others()
            if self.context.stop.wait(0.2) and self.counters.decide("stopped"):
                self._stop_if_asked()
        # A rank that is asked to stop now must not leave the one alone that writes the results.
        if not self.counters.decide("whole"):
            raise StoppedError(f"rank {self.context.rank} stops with another that was asked to stop: {self._kept()}")
        self._report(self.counters.count())

    def _stop_if_asked(self) -> None:
        if self.context.stop.is_set():
            raise StoppedError(f"rank {self.context.rank} was asked to stop: {self._kept()}")

    def _kept(self) -> str:
        done = min(self.work.done_records + self.counters.count().records, self.work.plan.records)
        return f"{done} of {self.work.plan.records} records are kept"

    def _report_others(self) -> None:
        count = self.counters.count()
        if count != self._last and time.monotonic() - self._reported >= REPORT_SECONDS:
            self._report(count)

    def _report(self, count: Count) -> None:
        now = time.monotonic()
        seconds, self._reported = now - (self._reported or self._start), now
        tokens, self._last = count.tokens - self._last.tokens, count
        # Whoever can reach the store can raise the counters.
        done = min(self.work.done_records + count.records, self.work.plan.records)
        if self.context.rank != 0:
            self.context.report.step(done)
            return
        pace = (now - self._start) / count.records if count.records else None
        progress = Progress(
            step=done,
            total=self.work.plan.records,
            first_step=self.work.done_records,
            tokens_per_second=tokens / seconds if tokens else None,
            eta_seconds=None if pace is None else pace * (self.work.plan.records - done),
            failed_records=self.work.failed_records + count.failed,
        )
        self.context.report.progress(progress)
