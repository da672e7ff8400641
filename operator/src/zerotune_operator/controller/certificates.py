"""The webhook's certificate, read again when it is renewed."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import NamedTuple

from zerotune_trainer.errors import InputMissingError

_POLL_SECONDS = 60

_logger = logging.getLogger(__name__)


class _Pair(NamedTuple):
    certificate: bytes
    key: bytes


class Certificates:
    """`tls.crt` and `tls.key` of a folder.

    Args:
        folder: The mounted Secret.
        poll_seconds: How often it is read.

    Raises:
        InputMissingError: it has no certificate.
    """

    def __init__(self, folder: Path, poll_seconds: float = _POLL_SECONDS) -> None:
        self._poll_seconds = poll_seconds
        self._certificate, self._key = folder / "tls.crt", folder / "tls.key"
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        """What connections are made with: the newest certificate, for those to come."""
        self._loaded = self._load()

    async def watch(self) -> None:
        """Take over renewed certificates until cancelled. One that is being written, file by file, is read again later;
        until then connections are made with the one before.
        """
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                if self._read() != self._loaded:
                    self._loaded = self._load()
                    _logger.info("the certificate was renewed")
            except (InputMissingError, OSError) as error:
                _logger.warning("the certificate is not renewed yet, the one before goes on: %s", error)

    def _read(self) -> _Pair:
        return _Pair(self._certificate.read_bytes(), self._key.read_bytes())

    def _load(self) -> _Pair:
        """Take over the certificate; what was taken over.

        Raises:
            InputMissingError: it cannot be read, or is not that of the key; then the one before is still in use.
        """
        try:
            pair = self._read()
            # A context whose key does not fit its certificate would reject every connection.
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self._certificate, self._key)
            self.context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            raise InputMissingError(
                f"no certificate can be read from {self._certificate} and {self._key}: {error}",
                "mount a kubernetes.io/tls Secret there",
            ) from error
        return pair
