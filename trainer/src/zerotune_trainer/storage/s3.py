"""S3, over boto3: one client a process, and what the errors of S3 mean for who wrote the URI."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    InvalidRegionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)

from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError, ZerotuneError

_MISSING = 404
_DENIED = {401, 403}
_CONFLICTS = {409, 412}
"""The object is not in the state that a conditional request asks for, or another such request was under way."""
_NOT_IMPLEMENTED = 501
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound)
_NO_REQUEST = (ConfigParseError, InvalidRegionError, ParamValidationError)
"""Raised before anything is asked: a name that no bucket may have, a region or file of AWS that cannot be read."""


@functools.cache
def client() -> Any:
    """S3 with keys, region and endpoint as boto3 finds them: the AWS variables, its files, the role of the pod or host.

    The one name that boto3 does not know is AWS_REGION, which the SDKs for other languages take.

    Raises:
        ConfigurationError: what the variables say makes no client.
    """
    retries = {"mode": "standard", "total_max_attempts": 3}
    config = Config(connect_timeout=10, read_timeout=60, retries=retries, max_pool_connections=32)
    try:
        return boto3.client("s3", region_name=os.environ.get("AWS_REGION"), config=config)
    except ValueError as error:
        raise ConfigurationError(f"S3 cannot be asked: {error}", "check AWS_ENDPOINT_URL and AWS_REGION") from error


# A forked process must not speak over its parent's connections.
os.register_at_fork(after_in_child=client.cache_clear)


def read_object(bucket: str, key: str) -> tuple[bytes, str] | None:
    """The content of a small object and its ETag; None where there is none.

    Raises:
        ClientError, BotoCoreError: as `s3_errors` explains.
    """
    try:
        answer = client().get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(), answer["ETag"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        return None


def exchange_object(bucket: str, key: str, content: bytes, expected: str | None) -> bool:
    """Write an object where it still has the ETag `expected`, or is absent still where that is None.

    Returns:
        Whether it was written; False where somebody else was faster.

    Raises:
        ConfigurationError: the store has no conditional writes.
        ClientError, BotoCoreError: as `s3_errors` explains.
    """
    condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
    try:
        client().put_object(Bucket=bucket, Key=key, Body=content, **condition)
    except ClientError as error:
        status = _status(error)
        if status in _CONFLICTS or (status == _MISSING and error.response["Error"]["Code"] == "NoSuchKey"):
            return False
        if status == _NOT_IMPLEMENTED:
            raise ConfigurationError(
                f"s3://{bucket}/{key}: the store has no conditional writes (If-Match, If-None-Match): {error}",
                "use a store that has them, so that two jobs cannot write one folder",
            ) from error
        raise
    return True


@contextmanager
def s3_errors(uri: str) -> Iterator[None]:
    """Say what an error of S3 means for who wrote `uri`.

    Raises:
        InputMissingError: no such bucket or key.
        ConfigurationError: access denied, no credentials, or no name of a bucket.
        TemporaryError: the store does not answer.
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise _meaning(uri, error) from error


def _meaning(uri: str, error: ClientError | BotoCoreError) -> ZerotuneError:
    status = _status(error) if isinstance(error, ClientError) else None
    if status == _MISSING:
        return InputMissingError(f"{uri} is not there: {error}", "check the bucket, the key and the region")
    if status in _DENIED or isinstance(error, _NO_CREDENTIALS):
        return ConfigurationError(
            f"{uri}: access denied: {error}",
            "give keys that may use it: a Secret named by `credentials` that holds AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or an IAM role of the pod",
        )
    if isinstance(error, _NO_REQUEST):
        return ConfigurationError(f"{uri} cannot be asked for: {error}", "check the URI and the AWS variables")
    return TemporaryError(
        f"{uri}: the store did not do it: {error}", "check AWS_ENDPOINT_URL and the network, then try again"
    )


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
