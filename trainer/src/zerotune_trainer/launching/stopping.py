"""Requests to stop, as the launcher receives them. Standard library alone, see `launch`."""

from __future__ import annotations

import signal
import threading
from typing import NoReturn


class StopRequest:
    """SIGTERM or SIGINT: before there are ranks it ends the launch at once, later it asks the ranks to stop."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._raises = False

    def catch_signals(self) -> None:
        """Let SIGTERM and SIGINT be requests. Called in the main thread."""
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._receive)

    def raise_from_now(self) -> None:
        """From now on a request raises StoppedError in the main thread, and so does one that was made already."""
        self._raises = True
        if self.event.is_set():
            self._raise()

    def no_longer_raise(self) -> None:
        """From now on a request only sets `event`."""
        self._raises = False

    def _receive(self, *_: object) -> None:
        self.event.set()
        if self._raises:
            self._raise()

    def _raise(self) -> NoReturn:
        from zerotune_trainer.errors import StoppedError  # Brings pydantic.

        self._raises = False  # A second signal must not disturb what the first one began.
        raise StoppedError("stopped on request before the ranks ran: there was nothing to save")
