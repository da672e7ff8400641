"""The ranks' common count of what is done, and what a rank reports to its launcher.

Of several replicas, rank 0 of each adds what the heartbeats of the others say, so that all report how far the job is.
Counts are for whoever watches, and hand out work; they prove nothing. What is done is what `verification.py` finds.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Literal

from torch.distributed.distributed_c10d import PrefixStore, Store

from zerotune_trainer.context import RankContext
from zerotune_trainer.errors import StoppedError
from zerotune_trainer.inference.heartbeats import Figures, Others, ReplicaHeartbeats
from zerotune_trainer.inference.verification import Work
from zerotune_trainer.progress import Progress

REPORT_SECONDS = 1.0


@dataclass(frozen=True)
class Count:
    """What all ranks of a replica have done in this round, or in all of its rounds, and what the others have."""

    records: int
    failed: int
    tokens: int
    written: int
    """Records of the shards that are written."""
    written_failed: int
    """Those of them that have an error."""
    heartbeats: int
    """Grows while a rank is busy, however long its batch takes."""
    ranks_finished: int
    others: Others
    """The other replicas."""

    @property
    def all_records(self) -> int:
        """Records done on all replicas."""
        return self.records + self.others.records

    @property
    def all_failed(self) -> int:
        """Records with an error on all replicas."""
        return self.failed + self.others.failed


class Counters:
    """Counters that all ranks share, in the store of the rendezvous. It lives in rank 0 and answers at once.

    Args:
        store: The store.
        number: The round of work that is counted.
        figures: A name for the figures that are counted over several rounds. Default: they are this round's.
    """

    def __init__(self, store: Store, number: int = 0, figures: str | None = None) -> None:
        self._store = PrefixStore(f"inference/{number}", store)
        self._figures = PrefixStore(f"inference/{figures or number}", store)

    def next_task(self) -> int:
        """A number from 0 that no other rank gets: which piece of the remaining work to do. A fast rank draws more."""
        return self._store.add("tasks", 1) - 1

    def add(self, records: int, failed: int, tokens: int) -> None:
        """Count what this rank has done."""
        self._figures.add("records", records)
        self._figures.add("failed", failed)
        self._figures.add("tokens", tokens)

    def add_written(self, records: int, failed: int) -> None:
        """Count a shard that this rank has written."""
        self._figures.add("written", records)
        self._figures.add("written failed", failed)

    def heartbeat(self) -> None:
        """Say that this rank is busy."""
        self._figures.add("heartbeats", 1)

    def finish(self) -> None:
        """Say that this rank will do no more."""
        self._store.add("finished", 1)

    def decide(self, outcome: Literal["whole", "stopped"]) -> bool:
        """Decide how the round ends. The rank that says it first decides; whether that was the same `outcome`."""
        return self._store.compare_set("outcome", "", outcome) == outcome.encode()

    def publish(self, others: Others) -> None:
        """Let all ranks know how far the other replicas are."""
        self._figures.set("others", json.dumps(others))

    def count(self) -> Count:
        """What all ranks have done so far."""
        others = json.loads(self._figures.get("others")) if self._figures.check(["others"]) else ()
        return Count(
            records=self._figures.add("records", 0),
            failed=self._figures.add("failed", 0),
            tokens=self._figures.add("tokens", 0),
            written=self._figures.add("written", 0),
            written_failed=self._figures.add("written failed", 0),
            heartbeats=self._figures.add("heartbeats", 0),
            ranks_finished=self._store.add("finished", 0),
            others=Others(*others),
        )


@dataclass
class ProgressTracker:
    """Reports that this rank is alive, from rank 0 also how far the job is, and observes a request to stop.

    Args:
        context: The rank.
        counters: The common count.
        work: The job's work, and what of it was done before.
        heartbeats: Of several replicas, on rank 0.
    """

    context: RankContext
    counters: Counters
    work: Work
    heartbeats: ReplicaHeartbeats | None = None
    _reported: float = field(default=0.0, init=False)
    _first: Count = field(init=False)
    _last: Count = field(init=False)
    _start: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        self._first = self._last = self.counters.count()

    def heartbeat(self) -> None:
        """A token, or a batch, was made.

        Raises:
            StoppedError: the rank was asked to stop.
        """
        self._stop_if_asked()
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self.counters.heartbeat()
            self._report(self.counters.count())

    def begin(self, *, partial_records: int, failed: int) -> None:
        """A shard is begun: what was generated of it before, and its records for which nothing can be.

        Raises:
            StoppedError: the rank was asked to stop.
        """
        # The only replica has counted what was generated before when it started.
        known = partial_records if self.context.replicas > 1 else 0
        self.count(records=known + failed, failed=failed, tokens=0)

    def count(self, *, records: int, failed: int, tokens: int) -> None:
        """Count what this rank has done.

        Raises:
            StoppedError: the rank was asked to stop.
        """
        self.counters.add(records, failed, tokens)
        self.heartbeat()

    def failed(self) -> int:
        """Records that became error records, on all ranks of all replicas and in earlier attempts."""
        return self.work.failed_records + self.counters.count().all_failed

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

    def pause(self, seconds: float) -> None:
        """Wait for what another replica does, which counts as getting on.

        Raises:
            StoppedError: the rank was asked to stop.
        """
        self.context.stop.wait(seconds)
        self._stop_if_asked()
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
        return f"{self._done(self.counters.count())} of {self.work.plan.records} records are kept"

    def _done(self, count: Count) -> int:
        # Whoever can reach the store can raise the counters.
        return min(self.work.done_records + count.all_records, self.work.plan.records)

    def _report_others(self) -> None:
        if self.heartbeats is not None:
            self.counters.publish(self.heartbeats.others())
        count = self.counters.count()
        if count != self._last and time.monotonic() - self._reported >= REPORT_SECONDS:
            self._report(count)

    def _report(self, count: Count) -> None:
        now = time.monotonic()
        seconds, self._reported = now - (self._reported or self._start), now
        tokens, self._last = count.tokens - self._last.tokens, count
        done = self._done(count)
        if self.context.rank != 0:
            self.context.report.step(done)
            return
        made = count.all_records - self._first.all_records
        pace = (now - self._start) / made if made else None
        per_second = tokens / seconds if tokens else 0.0
        self._share(count, per_second)
        progress = Progress(
            step=done,
            total=self.work.plan.records,
            first_step=self.work.done_records,
            tokens_per_second=(per_second + count.others.tokens_per_second) or None,
            eta_seconds=None if pace is None else pace * (self.work.plan.records - done),
            failed_records=self.work.failed_records + count.all_failed,
        )
        self.context.report.progress(progress)

    def _share(self, count: Count, tokens_per_second: float) -> None:
        """Let the other replicas know how far this one is, and this one's ranks how far they are."""
        if self.heartbeats is None:
            return
        figures = Figures(
            written=count.written,
            written_failed=count.written_failed,
            in_hand=max(0, count.records - count.written),
            tokens_per_second=tokens_per_second,
        )
        self.heartbeats.report(figures)
        self.counters.publish(self.heartbeats.others())
