"""The termination log: a file that gets what came of the job as JSON, for whoever started the launcher. Torch-free."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from zerotune_trainer.errors import ConfigurationError

KUBERNETES_LOG = Path("/dev/termination-log")


class TerminationMessage(Protocol):
    """What may be written: a `Failure`, a `Completion`."""

    def termination_message(self) -> str:
        """It as JSON of at most `errors.TERMINATION_MESSAGE_LIMIT` bytes."""


_logger = logging.getLogger(__name__)


class TerminationLog:
    """The file, emptied.

    Args:
        path: The file; by default Kubernetes' own where there is one, else none.

    Raises:
        ConfigurationError: it cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or (KUBERNETES_LOG if KUBERNETES_LOG.exists() else None)
        if self._path is None:
            return
        try:
            self._path.write_text("")
        except OSError as error:
            raise ConfigurationError(
                f"the termination log {self._path} cannot be written: {error.strerror}",
                "give --termination-log a file in a folder that is there and may be written to",
            ) from error

    def write(self, message: TerminationMessage) -> None:
        """Write the message. Where that fails, the log says so: what happened matters more."""
        if self._path is None:
            return
        try:
            self._path.write_text(message.termination_message(), encoding="utf-8")
        except OSError as error:
            _logger.error("the termination log %s cannot be written: %s", self._path, error)
