"""What the errors of S3 mean for who wrote the URI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
from zerotune_trainer.storage.runtime import in_pod, in_training_job
from zerotune_trainer.storage.s3_client import is_anonymous

MISSING = 404

_DENIED = {401, 403}

_NO_NAMES = {"InvalidBucketName", "InvalidURI", "KeyTooLongError"}

_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound)

_CHAIN = (
    "the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), the profile (AWS_PROFILE, ~/.aws), a web identity "
    "(AWS_WEB_IDENTITY_TOKEN_FILE) and the role of the instance"
)

_NO_REQUEST = (ConfigParseError, InvalidRegionError, ParamValidationError)
"""Raised before anything is asked: a name that no bucket may have, a region or file of AWS that cannot be read."""


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
    status = status_of(error) if isinstance(error, ClientError) else None
    if status == MISSING:
        return InputMissingError(f"{uri} is not there: {error}", "check the bucket, the key and the region")
    if status in _DENIED or isinstance(error, _NO_CREDENTIALS):
        anonymous = status is not None and is_anonymous()
        reason = f"Unable to locate credentials, and it is not public: {error}" if anonymous else str(error)
        remedy = _remedy_for_access(no_keys=anonymous or status is None)
        return ConfigurationError(f"{uri}: access denied: {reason}", remedy)
    if isinstance(error, _NO_REQUEST) or code_of(error) in _NO_NAMES:
        return ConfigurationError(f"{uri} cannot be asked for: {error}", "check the URI and the AWS variables")
    return TemporaryError(
        f"{uri}: the store did not do it: {error}", "check AWS_ENDPOINT_URL and the network, then try again"
    )


def _remedy_for_access(*, no_keys: bool) -> str:
    """What gives this process the right: a pod, an instance of SageMaker and a machine get theirs in different ways.

    Args:
        no_keys: Whether no credentials were found, or not those of the profile that is named.
    """
    if in_pod():
        return (
            "give keys that may use it: a Secret named by `credentials` that holds AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or an IAM role of the pod"
        )
    if in_training_job():
        return "let the execution role, backend.sagemaker.roleArn, use it: s3:GetObject, s3:PutObject, s3:ListBucket"
    if no_keys:
        return f"give this machine credentials that may use it: they were looked for in {_CHAIN}"
    return f"let the identity that asks use it, or give this machine credentials of another one: in {_CHAIN}"


def status_of(error: ClientError) -> int:
    """The HTTP status of the response."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def code_of(error: ClientError | BotoCoreError) -> str | None:
    """The error code of S3, such as `NoSuchKey`; None where there was no response."""
    return error.response["Error"].get("Code") if isinstance(error, ClientError) else None
