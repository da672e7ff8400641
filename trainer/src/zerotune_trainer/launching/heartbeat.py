"""A rank's line to its launcher: a thread that sends a message a second, receives SIGTERM, and
notices a dead launcher.

The thread sends everything, so training never waits for the launcher. It also receives SIGTERM, which Python would
hand to the main thread only when that returns from C code, such as a wait for other ranks.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection, wait
from typing import Any

from zerotune_trainer.errors import Failure, PeerLostError, StoppedError
from zerotune_trainer.failures import describe
from zerotune_trainer.launching.processes import exit_now
from zerotune_trainer.printable import printable
from zerotune_trainer.progress import (
    LONGEST_WARNING,
    MOST_WARNINGS,
    Completion,
    HeartbeatMessage,
    Phase,
    Progress,
    TopologyEntry,
)

HEARTBEAT_SECONDS = 1.0

_PREPARING: frozenset[Phase] = frozenset({"starting", "data", "rendezvous", "model"})
_WAKE = b"\0"
_SENT = {"progress": None, "topology": None, "completion": None}
"""What one message has carried, the next one does not repeat."""
_logger = logging.getLogger(__name__)


class Heartbeat:
    """The Reporter of a rank.

    Args:
        rank: The global rank.
        pipe: Where the messages go, as the JSON of `HeartbeatMessage`.
    """

    def __init__(self, rank: int, pipe: Connection) -> None:
        self.stop = threading.Event()
        self._pipe = pipe
        self._next = HeartbeatMessage(rank=rank, phase="starting")
        self._lock = threading.Lock()
        self._wakeup_reader, self._wakeup_writer = os.pipe()
        os.set_blocking(self._wakeup_reader, False)
        os.set_blocking(self._wakeup_writer, False)
        self._first_step: int | None = None
        self._warnings: list[str] = []
        self._prepared = False
        self._over = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start to send messages and to receive SIGTERM. Called in the main thread."""
        signal.set_wakeup_fd(self._wakeup_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, _leave_signal_to_thread)
        os.register_at_fork(before=_hold_sigterm, after_in_parent=_release_sigterm, after_in_child=_reset_sigterm)
        self._thread.start()

    def phase(self, phase: Phase) -> None:
        """Report what the rank does now."""
        self._report(phase=phase)

    def step(self, step: int) -> None:
        """Report that a step (or batch of records) is done."""
        self._report(step=step)

    def progress(self, progress: Progress) -> None:
        """Report how far the job is."""
        self._first_step = self._first_step if progress.first_step is None else progress.first_step
        progress = progress.model_copy(update={"warnings": self._warnings[-MOST_WARNINGS:] or None})
        self._report(progress=progress, step=progress.step)

    def topology(self, entries: list[TopologyEntry]) -> None:
        """Report where all ranks run."""
        self._report(topology=entries)

    def warning(self, text: str) -> None:
        """Log what a person should know though the job goes on; the next progress carries it."""
        text = printable(text)
        _logger.warning("%s", text)
        self._warnings.append(text[:LONGEST_WARNING])

    def completion(self, completion: Completion) -> None:
        """Report that the result is complete; its figures are the last progress, but for what is of this attempt."""
        of_attempt = {"first_step": self._first_step, "warnings": self._warnings[-MOST_WARNINGS:] or None}
        progress = completion.progress.model_copy(update=of_attempt)
        completion = completion.model_copy(update={"progress": progress})
        self._report(completion=completion, progress=progress, step=progress.step)

    def finish(self, failure: Failure | None) -> None:
        """Send the last message: what failed, or that all is done."""
        self._over = True
        self._wake()
        self._thread.join()
        self._send_last(failure)

    def _report(self, **changes: Any) -> None:
        with self._lock:
            self._next = self._next.model_copy(update={**changes, "reports": self._next.reports + 1})
            self._prepared |= self._next.phase not in _PREPARING
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wakeup_writer, _WAKE)
        except BlockingIOError:
            return  # A full pipe wakes the thread as well.

    def _run(self) -> None:
        launcher = multiprocessing.parent_process()
        assert launcher is not None, "a rank is started by a launcher"
        while not self._over:
            ready = wait([launcher.sentinel, self._wakeup_reader], timeout=HEARTBEAT_SECONDS)
            if launcher.sentinel in ready:
                exit_now(PeerLostError.exit_code)
            if self._wakeup_reader in ready and signal.SIGTERM in os.read(self._wakeup_reader, 4096):
                self._stop()
            self._send()

    def _stop(self) -> None:
        self.stop.set()
        if not self._prepared:
            self._send_last(describe(StoppedError("stopped on request before the first step: nothing to save")))
            exit_now(StoppedError.exit_code)

    def _send(self) -> None:
        with self._lock:
            message, self._next = self._next, self._next.model_copy(update=_SENT)
        try:
            self._pipe.send_bytes(message.model_dump_json(by_alias=True, exclude_none=True).encode())
        except BrokenPipeError:
            exit_now(PeerLostError.exit_code)

    def _send_last(self, failure: Failure | None) -> None:
        self._next = self._next.model_copy(update={"failure": failure} if failure else {"phase": "done"})
        self._send()


def _leave_signal_to_thread(*_: object) -> None:
    """Python only writes a signal to the wake-up descriptor when the signal has a handler; this is it."""


# A worker process of the rank (datasets, data loader) shares the wake-up descriptor. Without the following, ending the
# worker with SIGTERM would stop the rank instead, the more surely the sooner after the fork it is ended.


def _hold_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _release_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _reset_sigterm() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _release_sigterm()
