"""Which replicas of the job are alive, and how far each of them is: a small file of each, written every few seconds.

    work/replica-3-1.json    replica 1 of attempt 3

Clocks of several hosts are never compared: a replica counts as silent when its file has not changed for long by the
clock of whoever reads it.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import ValidationError

from zerotune_trainer.config.base import Settings
from zerotune_trainer.errors import ZerotuneError
from zerotune_trainer.inference.claims import Claim
from zerotune_trainer.inference.output import write
from zerotune_trainer.inference.plan import HEARTBEAT_PREFIX
from zerotune_trainer.ownership import Ownership

_HEARTBEATS_A_TIMEOUT = 10

_log = logging.getLogger(__name__)


class Figures(Settings):
    """How far a replica is."""

    written: int = 0
    """Records of the shards that it has written, also before it was lost and came back."""
    written_failed: int = 0
    """Those of them that have an error."""
    in_hand: int = 0
    """Records that are done of shards that it has yet to write."""
    tokens_per_second: float = 0.0


class Others(NamedTuple):
    """The other replicas together."""

    records: int = 0
    failed: int = 0
    tokens_per_second: float = 0.0
    heartbeats: int = 0
    """Grows while any of them is alive."""


class _Heartbeat(Settings):
    start: str
    number: int
    figures: Figures
    ended: bool = False


@dataclass(frozen=True)
class _Seen:
    heartbeat: _Heartbeat | None
    since: float
    """When this was seen first, by `time.monotonic`."""


class ReplicaHeartbeats:
    """The heartbeats of all replicas, on rank 0 of each. A thread writes its own and reads the others'.

    Args:
        ownership: The output folder.
        mine: What the claims of this replica hold.
        replicas: How many there are.
        timeout_seconds: How long one may be silent.
    """

    def __init__(self, ownership: Ownership, mine: Claim, replicas: int, timeout_seconds: float) -> None:
        self._ownership, self._mine, self._timeout = ownership, mine, timeout_seconds
        self._others = [number for number in range(replicas) if number != mine.replica]
        self._seen: dict[int, _Seen] = {}
        self._changes = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
        before = self._read(mine.replica)
        known = before.figures if before else Figures()
        self._before = Figures(written=known.written, written_failed=known.written_failed)
        self._heartbeat = _Heartbeat(start=mine.start, number=0, figures=self._before)

    def start(self) -> None:
        """Write the first heartbeat: before that the replica may claim nothing.

        Raises:
            ZerotuneError: it cannot be written.
        """
        self._write()
        self.poll()
        self._thread.start()

    def close(self) -> None:
        """Say that the replica has ended: what it has begun is anybody's at once."""
        self._stop.set()
        self._thread.join()
        self._heartbeat = self._heartbeat.model_copy(update={"ended": True})
        self._try_to_write()

    def report(self, figures: Figures) -> None:
        """Take down how far this start of the replica is: the next heartbeat says so."""
        total = {
            "written": self._before.written + figures.written,
            "written_failed": self._before.written_failed + figures.written_failed,
        }
        self._heartbeat = self._heartbeat.model_copy(update={"figures": figures.model_copy(update=total)})

    @property
    def before(self) -> Figures:
        """What earlier starts of this replica have written."""
        return self._before

    def poll(self) -> None:
        """Read the others' heartbeats."""
        with self._lock:
            for number in self._others:
                heartbeat, known = self._read(number), self._seen.get(number)
                if known is None or heartbeat != known.heartbeat:
                    self._seen[number] = _Seen(heartbeat, time.monotonic())
                    self._changes += known is not None

    def is_alive(self, claim: Claim) -> bool:
        """Whether the owner of a claim that was read before the last `poll` still works on it."""
        seen = self._seen.get(claim.replica)
        if claim.attempt != self._mine.attempt or seen is None or time.monotonic() - seen.since >= self._timeout:
            return False
        return seen.heartbeat is None or (seen.heartbeat.start == claim.start and not seen.heartbeat.ended)

    def others(self) -> Others:
        """The other replicas together, and earlier starts of this one."""
        heartbeats = [seen.heartbeat for seen in self._seen.values() if seen.heartbeat is not None]
        figures = [heartbeat.figures for heartbeat in heartbeats] + [self._before]
        alive = [heartbeat for heartbeat in heartbeats if not heartbeat.ended]
        return Others(
            records=sum(each.written + each.in_hand for each in figures),
            failed=sum(each.written_failed for each in figures),
            tokens_per_second=sum(heartbeat.figures.tokens_per_second for heartbeat in alive),
            heartbeats=self._changes,
        )

    def _run(self) -> None:
        while not self._stop.wait(self._timeout / _HEARTBEATS_A_TIMEOUT):
            self._try_to_write()

    def _try_to_write(self) -> None:
        try:
            self._write()
            self.poll()
        except (ZerotuneError, OSError) as error:
            # A store that does not answer: if that lasts, the others take over what this replica has begun.
            _log.warning("replica %d could not say that it is alive: %s", self._mine.replica, error)

    def _write(self) -> None:
        self._heartbeat = heartbeat = self._heartbeat.model_copy(update={"number": self._heartbeat.number + 1})
        write(self._ownership, self._name(self._mine.replica), heartbeat.model_dump_json(by_alias=True).encode())

    def _read(self, number: int) -> _Heartbeat | None:
        found = self._ownership.folder.read(self._name(number))
        try:
            return None if found is None else _Heartbeat.model_validate_json(found.content)
        except ValidationError:
            return None

    def _name(self, number: int) -> str:
        return f"{HEARTBEAT_PREFIX}{self._mine.attempt}-{number}.json"
