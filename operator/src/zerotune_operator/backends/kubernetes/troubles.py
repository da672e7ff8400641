"""Kinds of trouble, recognized by a message of the cluster: class, message and hint of what a pod waits for. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pydantic import Field

from zerotune_trainer.errors import Failure, TemporaryError

MISSING = "MissingReference"
"""Class of what waits for an object that does not exist."""


class Waiting(Failure):
    """What a pod waits for. It is no end: the job goes on once it is there."""

    exit_code: int = Field(default=TemporaryError.exit_code, alias="exitCode")


Hint = str | Callable[[str], str]
"""What to do about it, or what makes that of the message."""


class Trouble(NamedTuple):
    """A kind of trouble."""

    pattern: re.Pattern[str]
    failure_class: str
    hint: Hint


def trouble(pattern: str, failure_class: str, hint: Hint) -> Trouble:
    """The kind of trouble whose messages match a pattern."""
    return Trouble(re.compile(pattern), failure_class, hint)


def waiting_for(failure_class: str, message: str, hint: Hint) -> Waiting:
    """What a pod waits for."""
    advice = hint if isinstance(hint, str) else hint(message)
    return Waiting(failure_class=failure_class, message=message, hint=advice)


def first_match(troubles: Iterable[Trouble], message: str) -> Waiting | None:
    """The first kind of trouble that a message matches; None: it is of no kind that is known."""
    found = next((each for each in troubles if each.pattern.search(message)), None)
    return waiting_for(found.failure_class, message, found.hint) if found else None
