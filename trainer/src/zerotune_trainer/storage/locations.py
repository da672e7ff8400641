"""A URI as a file system and a path on it, and what the errors of that file system mean."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow.fs import AwsStandardS3RetryStrategy, LocalFileSystem, S3FileSystem, resolve_s3_region

from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError, ZerotuneError

_AWS_ERROR = re.compile(r"AWS Error (?P<name>[A-Z_]+)")
_DENIED = {"ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID", "SIGNATURE_DOES_NOT_MATCH"}
_MISSING = {"NO_SUCH_BUCKET", "NO_SUCH_KEY", "RESOURCE_NOT_FOUND"}


@dataclass(frozen=True)
class Location:
    """A place that can be listed and read: `path` is absolute for `file://`, `BUCKET/KEY` for `s3://`."""

    uri: str
    scheme: str
    path: str

    @property
    def filesystem(self) -> Any:
        """The pyarrow file system that `path` is a path on."""
        return s3_filesystem(self.path.partition("/")[0]) if self.scheme == "s3" else LocalFileSystem()

    @property
    def local(self) -> Path | None:
        """The path on this machine, for `file://`."""
        return Path(self.path) if self.scheme == "file" else None

    @property
    def bucket_and_key(self) -> tuple[str, str]:
        """For `s3://`; the key of a bucket's root is empty."""
        bucket, _, key = self.path.partition("/")
        return bucket, key

    def at(self, path: str) -> Location:
        """Another path of the same store."""
        return Location(f"{self.scheme}://{path}", self.scheme, path)

    def below(self, relative: str) -> Location:
        """A path below this folder."""
        return self.at(f"{self.path.rstrip('/')}/{relative}")


def locate(uri: str) -> Location:
    """Read a URI of a file or folder. What stands after `file://` is the path as it is, without percent-encoding.

    Raises:
        ConfigurationError: a scheme that holds no files here, or a relative path.
    """
    scheme, _, path = uri.partition("://")
    if scheme == "s3":
        return Location(uri, scheme, path.rstrip("/"))
    if scheme != "file":
        raise ConfigurationError(f"{uri!r} is neither file:// nor s3://", _remedy(scheme))
    if not path.startswith("/"):
        raise ConfigurationError(
            f"{uri!r} is a relative path", "write file:// and an absolute path: file:///data/a.jsonl"
        )
    return Location(uri, scheme, path.rstrip("/") or "/")


def _remedy(scheme: str) -> str:
    if scheme == "hf":
        return "only models are read from the hub: download the data set and give its files as file:// or s3://"
    if scheme == "pvc":
        return "claims are mounted by the backend; on this machine give the folder as file://"
    return "write file:///PATH or s3://BUCKET/KEY"


@functools.cache
def s3_filesystem(bucket: str) -> Any:
    """S3 with keys, region and endpoint from the AWS variables of the environment, one client a bucket.

    Raises:
        InputMissingError: AWS knows no such bucket.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        with store_errors(f"s3://{bucket}"):
            region = resolve_s3_region(bucket)
    return S3FileSystem(
        endpoint_override=endpoint,
        region=region or "us-east-1",
        connect_timeout=10,
        request_timeout=60,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=3),
    )


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Say what an error of the file system means for who wrote `uri`; one that says nothing about it rises as it is.

    Raises:
        InputMissingError: no such file, folder, bucket or key.
        ConfigurationError: access denied.
        TemporaryError: the store does not answer.
    """
    try:
        yield
    except OSError as error:
        meaning = _meaning(uri, error)
        if meaning is None:
            raise
        raise meaning from error


def _meaning(uri: str, error: OSError) -> ZerotuneError | None:
    match = _AWS_ERROR.search(str(error))
    if match is not None:
        return _aws_meaning(uri, match["name"], str(error))
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return InputMissingError(
            f"{uri} is not there", "check the path, and that the volume or bucket is the right one"
        )
    if isinstance(error, PermissionError):
        return ConfigurationError(
            f"{uri}: {error.strerror or error}", "let the user that runs the job read and write it"
        )
    return None


def _aws_meaning(uri: str, name: str, text: str) -> ZerotuneError:
    if name in _MISSING:
        return InputMissingError(f"{uri} is not there: {text}", "check the bucket, the key and the region")
    if name in _DENIED or "HTTP status 403" in text:
        return ConfigurationError(
            f"{uri}: access denied: {text}",
            "give keys that may use it: a Secret named by `credentials` that holds AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or an IAM role of the pod",
        )
    return TemporaryError(
        f"{uri}: the store did not do it: {text}", "check AWS_ENDPOINT_URL and the network, then try again"
    )
