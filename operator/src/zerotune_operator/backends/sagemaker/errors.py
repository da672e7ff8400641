"""What AWS answers where it does not do what it was asked for, as errors for who reads them. Pure.

    ThrottlingException, RequestLimitExceeded      TemporaryError
    ResourceLimitExceeded                          QuotaExceededError   an account's quota: an administrator raises it
    ResourceInUse                                  NameInUseError
    ValidationException "... not found"            NotFoundError
    ValidationException                            ConfigurationError
    AccessDeniedException, no credentials          ConfigurationError
    ExpiredTokenException, time-outs, 5xx          TemporaryError
    RequestExpired, RequestTimeTooSkewed,
    InvalidSignatureException of another time      TemporaryError       the clock of this machine is wrong

https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)

from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError, ZerotuneError

_THROTTLED = {"ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown"}
_DENIED = {"AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "InvalidClientTokenId", "403"}
_EXPIRED = {"ExpiredTokenException", "ExpiredToken"}
_SKEWED = {"RequestTimeTooSkewed", "RequestExpired"}
_SIGNATURE = "InvalidSignatureException"
_MISSING = {"ResourceNotFound", "ResourceNotFoundException", "NoSuchKey", "NoSuchBucket", "404"}
_CHAIN = (
    "they were looked for in the environment (AWS_ACCESS_KEY_ID), the profile (AWS_PROFILE, ~/.aws), the "
    "pod's identity or IRSA role (AWS_WEB_IDENTITY_TOKEN_FILE, AWS_CONTAINER_CREDENTIALS_FULL_URI) and the role of "
    "the instance"
)
_GIVE_CREDENTIALS = (
    "run `aws configure` or `aws sso login`, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; on a "
    f"cluster give the operator's ServiceAccount a role (IRSA or EKS Pod Identity): {_CHAIN}"
)


class QuotaExceededError(TemporaryError):
    """A quota of the account does not allow the training job."""

    failure_class = "QuotaExceeded"


class NameInUseError(TemporaryError):
    """There is a training job of that name already."""


class NotFoundError(InputMissingError):
    """There is no such training job, object or log stream."""


@contextmanager
def aws_errors(what: str) -> Iterator[None]:
    """Say what an error of boto3 means.

    Args:
        what: What is asked for: it begins the message.

    Raises:
        ConfigurationError, NotFoundError, QuotaExceededError, NameInUseError, TemporaryError: see above.
    """
    try:
        yield
    except ClientError as error:
        raise _meaning(what, error) from error
    except ProfileNotFound as error:
        raise ConfigurationError(
            f"{what}: {error}", "set AWS_PROFILE to one that `aws configure list-profiles` lists, or unset it"
        ) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ConfigurationError(f"{what}: {error}", _GIVE_CREDENTIALS) from error
    except (ParamValidationError, NoRegionError) as error:
        raise ConfigurationError(
            f"{what}: {error}", "set backend.sagemaker.region, or AWS_REGION, and check the values of backend.sagemaker"
        ) from error
    except BotoCoreError as error:
        raise TemporaryError(
            f"{what}: AWS did not answer: {error}",
            "see that the region is the one you mean, and that its endpoint can be reached; it is tried again",
        ) from error


def _meaning(what: str, error: ClientError) -> ZerotuneError:
    answer: Mapping[str, Any] = error.response["Error"]
    code, text = str(answer.get("Code", "")), str(answer.get("Message", ""))
    message = f"{what}: {text} ({code})"
    if code == "NoSuchBucket":
        return NotFoundError(message, "make the bucket, or correct the URI")
    if code in _MISSING or (code == "ValidationException" and "not found" in text.lower()):
        return NotFoundError(message, "see whether it was deleted, and that the region is the one it is in")
    if code == "ResourceInUse":
        return NameInUseError(message, "it is observed again before anything else is done")
    if code == "ResourceLimitExceeded":
        return QuotaExceededError(
            message, "raise the quota of this instance type for training jobs (Service Quotas), or end other jobs"
        )
    if code in _THROTTLED:
        return TemporaryError(message, "AWS asks for fewer requests; it is tried again, ever more seldom")
    if code in _EXPIRED:
        return TemporaryError(message, "the credentials have expired: renew them, for example with `aws sso login`")
    if code in _SKEWED or (code == _SIGNATURE and ("expired" in text or "not yet current" in text)):
        return TemporaryError(
            message, "set the clock of this machine, which AWS finds minutes off, for example by NTP; it is tried again"
        )
    return _rejected(code, message, error)


def _rejected(code: str, message: str, error: ClientError) -> ZerotuneError:
    if code == _SIGNATURE:
        return ConfigurationError(message, f"correct the secret key of the AWS credentials: {_CHAIN}")
    if code in _DENIED and message.startswith("s3://"):
        return ConfigurationError(
            message, "give the identity that asks s3:GetObject and s3:PutObject of it, and s3:ListBucket of its bucket"
        )
    if code in _DENIED:
        return ConfigurationError(
            message,
            "give the identity that asks the rights of docs/sagemaker-policy.json, iam:PassRole of the role too",
        )
    if error.response["ResponseMetadata"].get("HTTPStatusCode", 500) < 500:
        return ConfigurationError(message, "correct what AWS names here, in backend.sagemaker or the URIs of the spec")
    return TemporaryError(message, "AWS has a problem of its own; it is tried again")
