"""The webhook's certificate, read again when it is renewed."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from zerotune_trainer.errors import InputMissingError

_LOOK_SECONDS = 60

_logger = logging.getLogger(__name__)


class Certificates:
    """`tls.crt` and `tls.key` of a folder.

    Args:
        folder: The mounted Secret.

    Raises:
        InputMissingError: it has no certificate.
    """

    def __init__(self, folder: Path) -> None:
        self._certificate, self._key = folder / "tls.crt", folder / "tls.key"
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        """What connections are made with: the newest certificate, for those to come."""
        self._load()

    async def watch(self) -> None:
        """Look for a renewed certificate until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._certificate.read_bytes() != self._loaded:
                self._load()
                _logger.info("the certificate was renewed")

    def _load(self) -> None:
        try:
            self._loaded = self._certificate.read_bytes()
            self.context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            raise InputMissingError(
                f"no certificate can be read from {self._certificate} and {self._key}: {error}",
                "mount a kubernetes.io/tls Secret there",
            ) from error
