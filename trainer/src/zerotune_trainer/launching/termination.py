"""The termination log: a file that gets the failure as JSON, for whoever started the launcher. Torch-free."""

from __future__ import annotations

import logging
from pathlib import Path

from zerotune_trainer.errors import ConfigurationError, Failure

KUBERNETES_LOG = Path("/dev/termination-log")

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

    def write(self, failure: Failure) -> None:
        """Write the failure. Where that fails, the log says so: the failure itself matters more."""
        if self._path is None:
            return
        try:
            self._path.write_text(failure.termination_message())
        except OSError as error:
            _logger.error("the termination log %s cannot be written: %s", self._path, error)
