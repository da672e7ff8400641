"""`FailureReason` of a training job -> Failure. Pure.

AlgorithmError        the container ended with an exit code; what it wrote to /opt/ml/output/failure is quoted
ClientError           the request cannot be fulfilled: data or an image that is missing, an instance that is too small
CapacityError         there were no instances
InternalServerError   SageMaker's own

https://docs.aws.amazon.com/sagemaker/latest/dg/model-train-troubleshoot.html
"""

from __future__ import annotations

import re

from zerotune_operator.backends.reports import text
from zerotune_operator.lifecycle.observation import CAPACITY
from zerotune_trainer.errors import (
    ConfigurationError,
    Failure,
    InputMissingError,
    InternalError,
    KilledError,
    TemporaryError,
    ZerotuneError,
)

_EXIT_CODE = re.compile(r"exit code:? (\d{1,3})", re.IGNORECASE)
_EMPTY = re.compile(r"AlgorithmError: *,? *exit code:? \d{1,3}", re.IGNORECASE)
_CODES = {error.exit_code: error.failure_class for error in ZerotuneError.__subclasses__()}
_CONSOLE = (
    "see the training job in the console of SageMaker, and its log in CloudWatch Logs, /aws/sagemaker/TrainingJobs"
)


def is_empty(reason: str) -> bool:
    """Whether a `FailureReason` says no more than with which exit code the container ended."""
    return _EMPTY.fullmatch(reason) is not None


def failure_of(reason: str, log: str = "") -> Failure:
    """What a `FailureReason` means.

    Args:
        reason: It.
        log: How the log of the container ends, where the reason is empty.
    """
    kind, _, detail = text(reason).partition(":")
    match kind:
        case "CapacityError":
            return _failure(
                CAPACITY, TemporaryError.exit_code, reason, "it is tried again; other instance types may be there"
            )
        case "InternalServerError":
            return _failure(TemporaryError.failure_class, TemporaryError.exit_code, reason, "it is tried again")
        case "ClientError" if "download" in detail.lower() or "image" in detail.lower():
            error = InputMissingError
            hint = "see that the execution role may read the bucket and pull the image, and that both are there"
            return _failure(error.failure_class, error.exit_code, reason, hint)
        case "ClientError":
            return _failure(ConfigurationError.failure_class, ConfigurationError.exit_code, reason, _CONSOLE)
    return _algorithm_error(reason, log)


def _algorithm_error(reason: str, log: str) -> Failure:
    found = _EXIT_CODE.findall(reason)
    code = int(found[-1]) if found and 1 <= int(found[-1]) <= 255 else InternalError.exit_code
    hint = _CONSOLE
    if code == KilledError.exit_code:
        hint = "an instance that is out of memory kills its processes: lower the batch, or take a larger instance type"
    message = reason
    if is_empty(reason):
        end = f"; its log ends with: {log}" if log else ""
        message = f"the container ended with exit code {code} and gave no reason{end}"
    return _failure(_CODES.get(code, InternalError.failure_class), code, message, hint)


def _failure(name: str, code: int, reason: str, hint: str) -> Failure:
    return Failure(failure_class=name, message=text(reason), hint=hint, exit_code=code)
