"""What goes wrong on request: an answer that is an error, or that never comes, before or after the call took effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class AwsError(Exception):
    """An error as AWS answers it.

    Args:
        code: Such as `ThrottlingException`.
        message: For a person.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class NoAnswerError(Exception):
    """The connection breaks instead of an answer."""


@dataclass
class Fault:
    """What happens to the next calls of an operation."""

    operation: str
    code: str | None
    """The error that is answered; None: the connection breaks."""
    times: int = 1
    after_effect: bool = False
    """Whether the call takes effect all the same."""

    def error(self) -> Exception:
        """What is raised instead of an answer."""
        return AwsError(self.code, f"{self.code} on request") if self.code else NoAnswerError()


@dataclass
class Faults:
    """The faults to come."""

    pending: list[Fault] = field(default_factory=list)
    without_capacity: set[str] = field(default_factory=set)
    """Instance types of which there are no instances for the next training jobs."""

    def apply(self, operation: str, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The answer of a call, or the next fault of its operation."""
        fault = next((each for each in self.pending if each.operation == operation and each.times), None)
        if fault is None:
            return call()
        fault.times -= 1
        if fault.after_effect:
            call()
        raise fault.error()
