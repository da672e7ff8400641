"""A rank as its launcher sees it: the process, its last message, and how it ended. Torch-free."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

import psutil

from zerotune_trainer.errors import Failure, HangError, PeerLostError
from zerotune_trainer.failures import describe, of_exit, or_stopped
from zerotune_trainer.launching.peers import SILENT_SECONDS
from zerotune_trainer.progress import HeartbeatMessage, Phase, RankProgress

_STEPPING: frozenset[Phase] = frozenset({"training", "evaluating", "generating"})


@dataclass
class Rank:
    """A rank of this node.

    Args:
        number: The global rank.
        process: Its process, started.
        pipe: Where its messages arrive.
    """

    number: int
    process: ForkServerProcess
    pipe: Connection
    last: HeartbeatMessage = field(init=False)
    heartbeat_at: float = field(default_factory=time.monotonic)
    report_at: float = field(default_factory=time.monotonic)
    exit_code: int | None = None

    def __post_init__(self) -> None:
        self.last = HeartbeatMessage(rank=self.number, phase="starting")

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.exit_code is None

    @property
    def silent(self) -> bool:
        """Whether it runs, but its heartbeat stopped."""
        return self.running and time.monotonic() - self.heartbeat_at >= SILENT_SECONDS

    def receive(self) -> Iterator[HeartbeatMessage]:
        """Receive the messages that it has sent since."""
        try:
            while not self.pipe.closed and self.pipe.poll():
                message = HeartbeatMessage.model_validate_json(self.pipe.recv_bytes())
                self._record(message)
                yield message
        except (EOFError, OSError):  # The latter where it was killed in the middle of a message.
            self.pipe.close()

    def end(self) -> None:
        """Note how it ended. Called when the process's sentinel is ready and all its messages were received."""
        self.process.join()
        self.exit_code = self.process.exitcode

    def failure(
        self, *, oom_kills: int | None, over_nccl: bool, own_code: str | None, stopping: bool
    ) -> Failure | None:
        """What the end of a rank means that left no failure of its own; None while it runs and where all was done.

        Args:
            oom_kills: As in `failures.of_exit`.
            over_nccl: As in `failures.of_exit`.
            own_code: As in `failures.of_exit`.
            stopping: Whether the ranks were asked to stop.
        """
        if self.exit_code is None or (self.exit_code == 0 and self.last.phase == "done"):
            return None
        error = of_exit(self.number, self.exit_code, oom_kills=oom_kills, over_nccl=over_nccl, own_code=own_code)
        return describe(or_stopped(error, stopping=stopping))

    def stalls(self, seconds: float) -> bool:
        """Whether it made no report for this long in a phase that makes steps."""
        return self.last.phase in _STEPPING and time.monotonic() - self.report_at >= seconds

    def hangs(self, timeout_seconds: float) -> bool:
        """Whether it made no heartbeat for this long, or no report in a phase that makes steps."""
        silent = time.monotonic() - self.heartbeat_at >= timeout_seconds
        return self.running and (silent or self.stalls(timeout_seconds))

    def hang(self) -> Failure:
        """The failure of a rank that hangs, or does not end."""
        if self.silent:
            message = (
                f"rank {self.number} ({self._state()}) has been silent for {time.monotonic() - self.heartbeat_at:.0f}s"
            )
            return describe(
                HangError(message, "see what stopped it: a signal, a debugger, storage that does not answer")
            )
        hint = "its heartbeat is alive: it most likely waits for a rank of another host"
        return describe(HangError(self._standstill(), hint))

    def wait(self) -> Failure:
        """The failure of a rank that hangs because of what is wrong on another host."""
        return describe(PeerLostError(self._standstill(), "its heartbeat is alive: see the failure of that host"))

    def view(self) -> RankProgress:
        """The rank as `/progress` shows it."""
        now = time.monotonic()
        return RankProgress(
            rank=self.number,
            pid=self.process.pid,
            phase=self.last.phase,
            step=self.last.step,
            heartbeat_age_seconds=now - self.heartbeat_at,
            step_age_seconds=now - self.report_at,
            exit_code=self.exit_code,
        )

    def _record(self, message: HeartbeatMessage) -> None:
        self.heartbeat_at = time.monotonic()
        if message.reports != self.last.reports:
            self.report_at = self.heartbeat_at
        self.last = message

    def _standstill(self) -> str:
        seconds = time.monotonic() - self.report_at
        return f"rank {self.number} has not got on for {seconds:.0f}s in phase {self.last.phase}"

    def _state(self) -> str:
        try:
            return f"pid {self.process.pid}, {psutil.Process(self.process.pid).status()}"
        except psutil.NoSuchProcess:
            return f"pid {self.process.pid}, ended"
