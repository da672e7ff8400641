"""What AWS answers where it does not do what it was asked for, as errors for who reads them. Pure.

    ThrottlingException, RequestLimitExceeded      TemporaryError
    ResourceLimitExceeded                          QuotaExceededError   an account's quota: an administrator raises it
    ResourceInUse                                  NameInUseError
    ValidationException "... not found"            NotFoundError
    ValidationException                            ConfigurationError
    AccessDeniedException, no credentials          ConfigurationError
    UnrecognizedClientException, InvalidAccessKeyId
    and the like                                   ConfigurationError   the keys are wrong
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

from zerotune_operator.backends.sagemaker.advice import COMMAND_LINE, Advice
from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError, ZerotuneError

_THROTTLED = {"ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown"}
_DENIED = {"AccessDeniedException", "AccessDenied", "403"}
_UNKNOWN_KEYS = {
    *("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "InvalidToken"),
    *("SignatureDoesNotMatch", "InvalidSignatureException"),
}
_EXPIRED = {"ExpiredTokenException", "ExpiredToken"}
_SKEWED = {"RequestTimeTooSkewed", "RequestExpired"}
_MISSING = {"ResourceNotFound", "ResourceNotFoundException", "NoSuchKey", "NoSuchBucket", "404"}


class QuotaExceededError(TemporaryError):
    """A quota of the account does not allow the training job."""

    failure_class = "QuotaExceeded"


class NameInUseError(TemporaryError):
    """There is a training job of that name already."""


class NotFoundError(InputMissingError):
    """There is no such training job, object or log stream."""


@contextmanager
def aws_errors(what: str, advice: Advice = COMMAND_LINE) -> Iterator[None]:
    """Say what an error of boto3 means.

    Args:
        what: What is asked for: it begins the message.
        advice: For who reads it.

    Raises:
        ConfigurationError, NotFoundError, QuotaExceededError, NameInUseError, TemporaryError: see above.
    """
    try:
        yield
    except ClientError as error:
        raise _meaning(what, error, advice) from error
    except ProfileNotFound as error:
        raise ConfigurationError(f"{what}: {error}", advice.profile) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ConfigurationError(f"{what}: {error}", advice.give) from error
    except (ParamValidationError, NoRegionError) as error:
        raise ConfigurationError(f"{what}: {error}", advice.region) from error
    except BotoCoreError as error:
        raise TemporaryError(
            f"{what}: AWS did not answer: {error}",
            f"see that the region is the one you mean, and that its endpoint can be reached{advice.again}",
        ) from error


def _meaning(what: str, error: ClientError, advice: Advice) -> ZerotuneError:
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
        return TemporaryError(message, f"AWS asks for fewer requests for a while{advice.again}")
    if code in _EXPIRED | _SKEWED | _UNKNOWN_KEYS:
        return _not_accepted(code, message, advice)
    return _rejected(code, message, error, advice)


def _not_accepted(code: str, message: str, advice: Advice) -> ZerotuneError:
    """What is wrong with the keys of a request, or with its time."""
    if code in _EXPIRED:
        return TemporaryError(message, advice.renew)
    if code in _SKEWED or "expired" in message or "not yet current" in message:
        return TemporaryError(message, advice.clock)
    return ConfigurationError(message, advice.correct)


def _rejected(code: str, message: str, error: ClientError, advice: Advice) -> ZerotuneError:
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
    return TemporaryError(message, f"AWS has a problem of its own, which passes{advice.again}")
