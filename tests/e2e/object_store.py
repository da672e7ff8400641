"""An S3 server of this machine that pods reach and that lets nobody in without the right keys: moto."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

REGION = "us-east-1"
BUCKET = "team-bucket"
_STARTS_WITHIN_SECONDS = 60
_ALL_OF_S3 = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'


@dataclass(frozen=True)
class ObjectStore:
    """A store with a bucket, and the keys of the one user who may use it."""

    endpoint: str
    access_key: str
    secret_key: str

    def environment(self) -> dict[str, str]:
        """The variables by which programs find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
        }

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self._client().put_object(Bucket=BUCKET, Key=key, Body=content)

    def put_folder(self, key: str, folder: Path) -> None:
        """Write the files of a folder."""
        for path in folder.iterdir():
            self.put(f"{key}/{path.name}", path.read_bytes())

    def get(self, key: str) -> bytes:
        """Read an object."""
        content: bytes = self._client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def _client(self) -> Any:
        return _client("s3", self.endpoint, self.access_key, self.secret_key)


@contextmanager
def object_store(address: str, log: Path) -> Iterator[ObjectStore]:
    """Run a server at an address of this machine until the end of the block."""
    with socket.create_server((address, 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", address, "-p", str(port)]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _await(address, port)
        yield _with_user(f"http://{address}:{port}")
    finally:
        server.terminate()
        server.wait()


def _await(address: str, port: int) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_SECONDS
    while socket.socket().connect_ex((address, port)):
        assert time.monotonic() < deadline, "moto did not start"
        time.sleep(0.1)


def _with_user(endpoint: str) -> ObjectStore:
    """Make bucket and user, then lock the door."""
    iam = _client("iam", endpoint, "nobody", "nothing")
    iam.create_user(UserName="trainer")
    iam.put_user_policy(UserName="trainer", PolicyName="s3", PolicyDocument=_ALL_OF_S3)
    key = iam.create_access_key(UserName="trainer")["AccessKey"]
    _client("s3", endpoint, "nobody", "nothing").create_bucket(Bucket=BUCKET)
    text = {"Content-Type": "text/plain"}
    lock = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", data=b"0", headers=text)
    urllib.request.urlopen(lock).close()
    return ObjectStore(endpoint, key["AccessKeyId"], key["SecretAccessKey"])


def _client(service: str, endpoint: str, access_key: str, secret_key: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
    )
