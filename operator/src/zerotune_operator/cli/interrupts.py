"""Ctrl-C where there is nothing to be undone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Have Ctrl-C end the process at once and without a traceback, which a shell shows as exit code 130."""
    previous = end_on_ctrl_c()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def end_on_ctrl_c() -> Any:
    """The same for good, unless Ctrl-C is ignored; answers what caught it before."""
    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return previous
