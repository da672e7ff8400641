"""The webhook's certificate is renewed file by file, as any writer of files does."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from zerotune_operator.controller.certificates import Certificates
from zerotune_trainer.errors import InputMissingError

POLL = 0.02


@pytest.mark.slow
def test_a_renewal_that_is_half_written_is_taken_over_when_it_is_whole(tmp_path: Path) -> None:
    async def act() -> None:
        old, new = _pair(tmp_path / "old"), _pair(tmp_path / "new")
        folder = _written(tmp_path / "mounted", *old)
        certificates = Certificates(folder, POLL)
        watching = asyncio.ensure_future(certificates.watch())
        async with _server(certificates) as port:
            steps: list[tuple[str, bytes]] = [
                ("tls.crt", b""),
                ("tls.crt", new[0][: len(new[0]) // 2]),
                ("tls.crt", new[0]),
                ("tls.key", new[1][:40]),
            ]
            for name, content in steps:
                (folder / name).write_bytes(content)
                await asyncio.sleep(5 * POLL)
                assert await _served(port) == _der(old[0]), f"after {name} of {len(content)} bytes"
            (folder / "tls.key").unlink()
            await asyncio.sleep(5 * POLL)
            assert await _served(port) == _der(old[0])
            (folder / "tls.key").write_bytes(new[1])
            await asyncio.sleep(5 * POLL)
            assert not watching.done()
            assert await _served(port) == _der(new[0])
        watching.cancel()

    asyncio.run(act())


def test_an_operator_without_a_certificate_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        Certificates(tmp_path)


def _pair(folder: Path) -> tuple[bytes, bytes]:
    folder.mkdir()
    files = ("-out", folder / "c", "-keyout", folder / "k")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=webhook")
    subprocess.run(["openssl", "req", "-x509", "-days", "2", *kind, *files], check=True, capture_output=True)
    return (folder / "c").read_bytes(), (folder / "k").read_bytes()


def _written(folder: Path, certificate: bytes, key: bytes) -> Path:
    folder.mkdir()
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)
    return folder


def _der(certificate: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.decode())


@asynccontextmanager
async def _server(certificates: Certificates) -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=certificates.context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _served(port: int) -> bytes:
    """The certificate that a new connection gets."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return found
