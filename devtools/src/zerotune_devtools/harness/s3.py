"""An S3 server of this machine: moto, as a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STARTS_WITHIN_SECONDS = 120


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """The URL of a server that runs for as long as the context lasts.

    Args:
        log: File that receives what it prints.

    Raises:
        TimeoutError: it does not start.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def bucket_of(endpoint: str, name: str) -> dict[str, str]:
    """Make a bucket on a server, unless it is there; returns the variables by which clients find it."""
    import boto3

    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region_name=keys["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket=name)
    return {"AWS_ENDPOINT_URL": endpoint} | keys


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise TimeoutError("moto did not start")
        time.sleep(0.05)
