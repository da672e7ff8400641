"""What the API server answers where it does not do what it was asked for: its Status object as an error, known by its
code, reason and causes (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/).

404 NotFound                            MissingError        the object, its namespace, or its kind
409 AlreadyExists, Conflict             ConflictError
400, 422 about fields                   InvalidError        the object cannot be had
403 that names a user                   ForbiddenError      the operator has no right to do it
403, 422 by admission                   DeniedError         a quota, a policy, a webhook
410, 429, 5xx                           UnavailableError    also where a webhook does not answer
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from zerotune_trainer.errors import ConfigurationError, InternalError, TemporaryError, ZerotuneError

_NO_RIGHT = re.compile(r'(^|: )User "[^"]*" cannot \w+ ')
"""The message of every authorizer; nothing else of a Status distinguishes it from what admission forbids."""
_QUOTA = re.compile(r'^\S+ "[^"]*" is forbidden: (exceeded|failed) quota: ')
"""The message of the admission plugin ResourceQuota, behind the name of the object."""
_WEBHOOK_DOWN = re.compile(r"^Internal error occurred: failed calling webhook ")
"""The message of the API server where it fails to ask a webhook; the reason is that of any error of its own."""
_DENIED = re.compile(r'^admission webhook "[^"]*" denied the request')


class Cause(NamedTuple):
    """One of the causes that a Status gives."""

    reason: str = ""
    """One CamelCase word: `FieldValueInvalid`, `NamespaceTerminating`."""
    field: str = ""
    """The field that it is about, if any."""


class ApiError(Exception):
    """An answer of the API server that is no success.

    Attributes:
        status: Its HTTP status.
        reason: Its reason, one CamelCase word; empty where it gave none.
        causes: The causes in its details.
    """

    status: int = 0
    reason: str = ""
    causes: Sequence[Cause] = ()


class MissingError(ApiError, TemporaryError):
    """The API server has no such object, or no such namespace."""


class ConflictError(ApiError, TemporaryError):
    """The object is there already, or has changed since it was read."""


class ForbiddenError(ApiError, TemporaryError):
    """The operator has no right to do that, as yet."""


class DeniedError(ApiError, TemporaryError):
    """Admission rejects the object: a quota, a policy or a webhook of the cluster, which somebody may change."""

    failure_class = "Forbidden"


class QuotaError(DeniedError):
    """The namespace's quota is used up."""

    failure_class = "QuotaExceeded"


class UnavailableError(ApiError, TemporaryError):
    """The API server cannot answer now."""


class InvalidError(ApiError, ConfigurationError):
    """The API server takes no such object."""


class UnknownAnswerError(ApiError, InternalError):
    """The API server answered what is not foreseen."""


def api_error(status: int, request: str, content: bytes) -> ZerotuneError:
    """The error that an answer stands for.

    Args:
        status: Its HTTP status.
        request: Method and path, for the message.
        content: The answer: as a rule a Status object, whose message says more.
    """
    answer = _status_of(content)
    reason = str(answer.get("reason") or "")
    details = answer.get("details") or {}
    causes = [Cause(each.get("reason") or "", each.get("field") or "") for each in details.get("causes") or ()]
    message = str(answer.get("message") or content.decode(errors="replace"))[:2000]
    error = _error(status, causes, message, request)
    assert isinstance(error, ApiError)
    error.status, error.reason, error.causes = status, reason, causes
    return error


def _error(status: int, causes: Sequence[Cause], message: str, request: str) -> ZerotuneError:
    match status:
        case 404:
            return MissingError(f"{request}: {message}", "see that the namespace is there, and the CRDs are installed")
        case 409:
            return ConflictError(message)
        case 401:
            return ForbiddenError(f"{request}: {message}", "see that the operator's service account is there")
        case 403 if _NO_RIGHT.search(message):
            return ForbiddenError(f"{request}: {message}", "see that the chart's roles are bound to the operator")
        case 400 | 403 | 422 if status == 403 or _is_denied(causes, message):
            return _denied(causes, message)
        case 400 | 422:
            return InvalidError(message, "change what the message names; backend.kubernetes.pod is merged into it")
        case 410 | 429 | 500 | 502 | 503 | 504:
            return UnavailableError(f"{request}: {status} {message}", _unavailable_hint(message))
    return UnknownAnswerError(f"{request}: {status} {message}")


def _is_denied(causes: Sequence[Cause], message: str) -> bool:
    """Whether admission rejects an object, whatever code it answers with: what is wrong with the object itself names
    the fields, or how it was written.
    """
    by_policy = bool(causes) and not any(cause.field or cause.reason for cause in causes)
    return by_policy or _DENIED.match(message) is not None


def _denied(causes: Sequence[Cause], message: str) -> DeniedError:
    if any(cause.reason == "NamespaceTerminating" for cause in causes):
        return DeniedError(message, "the namespace is being deleted, and the job goes with it")
    if _QUOTA.search(message):
        return QuotaError(message, "raise the namespace's quota, or wait until others are done")
    return DeniedError(
        message,
        "set what the message names under backend.kubernetes.metadata or backend.kubernetes.pod, or have the policy or "
        "webhook of the cluster changed",
    )


def _unavailable_hint(message: str) -> str:
    if _WEBHOOK_DOWN.match(message):
        return "an admission webhook of the cluster does not answer: see its Service and pods"
    return "it is asked again by itself"


def _status_of(content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
