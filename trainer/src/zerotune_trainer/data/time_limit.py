"""A limit on what a template of the user's computes for a record: Jinja's sandbox bounds a loop, not nested ones."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 10.0
"""Time of the process on its CPUs, not of the clock: one that is stopped or waits uses none. A record takes
milliseconds."""


class TakesTooLongError(Exception):
    """A template did not come to its end."""


@contextmanager
def time_limit() -> Iterator[None]:
    """End what is within after `SECONDS`. Python lets only the main thread, in which ranks and their processes render,
    be interrupted: elsewhere there is no limit.

    Raises:
        TakesTooLongError: it had not ended by then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _end)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _end(*_: object) -> None:
    raise TakesTooLongError(f"it has not come to its end after {SECONDS:g} s of computing")
