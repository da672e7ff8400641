"""What the API server answers where it does not do what it was asked for."""

from __future__ import annotations

import json
from typing import Any

from zerotune_trainer.errors import ConfigurationError, InternalError, TemporaryError, ZerotuneError


class MissingError(InternalError):
    """The API server has no such object, or no such namespace."""


class ConflictError(TemporaryError):
    """The object is there already, or has changed since it was read."""


class ForbiddenError(TemporaryError):
    """The API server does not let the operator do that, as yet."""


def error_of_answer(status: int, request: str, content: bytes) -> ZerotuneError:
    """What an answer that is no success means.

    Args:
        status: Its HTTP status.
        request: Method and path, for the message.
        content: The answer: as a rule a Status object, whose message says more.
    """
    message = _message(content)
    match status:
        case 404:
            return MissingError(message)
        case 409:
            return ConflictError(message)
        case 422 if "field is immutable" in message:
            # Of what the operator applies only ConfigMaps are that: one of an earlier resource goes within seconds.
            return TemporaryError(
                message, "it is left from an earlier job of this name: wait until it is gone, or delete it"
            )
        case 400 | 422:
            return ConfigurationError(
                message, "change what the message names; backend.kubernetes.pod is merged into it"
            )
        case 403 if "quota" in message:
            return TemporaryError(message, "raise the namespace's quota, or wait until others are done")
        case 401 | 403:
            return ForbiddenError(f"{request}: {message}", "see that the chart's roles are bound to the operator")
        case 410 | 429 | 500 | 502 | 503 | 504:
            return TemporaryError(f"{request}: {status} {message}")
    return InternalError(f"{request}: {status} {message}")


def _message(content: bytes) -> str:
    try:
        answer: Any = json.loads(content)
    except ValueError:
        return content.decode(errors="replace")[:1000]
    return str(answer.get("message", answer))[:2000] if isinstance(answer, dict) else str(answer)[:1000]
