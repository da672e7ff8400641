"""What can go wrong, as exit codes that say why.

    ZerotuneError
    +-- ConfigurationError   64  the spec is wrong, contradicts itself, or is not supported
    +-- DataError            65  a record or a file of the data is bad
    +-- InputMissingError    66  a file, folder, column or host that should be there is not
    +-- ForgettingError      67  the model has forgotten more than the spec allows
    +-- NameResolutionError  68  names of hosts of the job do not resolve
    +-- PeerLostError        69  another rank or node went away
    +-- InternalError        70  our bug, or one of a library
    +-- OutOfMemoryError     71  the device or the host ran out of memory
    +-- HangError            72  a rank stopped making progress
    +-- TemporaryError       75  try again: a full disk, a port in use, a store that does not answer
    |   +-- ModelChangedError     the model is not the one that the job was planned for; it is planned anew
    +-- AuthenticationError  76  a process that is not of the attempt took part in its rendezvous
    +-- SupersededError      77  a later attempt of the job has taken its folder over: this one may write no more
    +-- KilledError         137  a rank was killed from outside (SIGKILL), and not for lack of memory
    +-- StoppedError        143  stopped on request, after a checkpoint where there was something to keep

The numbers follow sysexits(3) where it has one; 128 and more say which signal ended the work. Codes 64 to 67 are
never retried: the same input fails again. Nor is 77: the later attempt goes on with the work.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from zerotune_trainer.printable import printable

TERMINATION_MESSAGE_LIMIT = 4096
"""Bytes Kubernetes keeps of a termination message."""

SEE_TRACEBACK = "the log has the whole traceback"
"""Part of the hint of an error of code of the user's, or of ours."""

PLACE_IS_FULL = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "has reached its quota",
    errno.EFBIG: "has reached the size that a file may have",
}
"""Errors of the system, by their number, where a place takes no more: it may do so later."""


class ZerotuneError(Exception):
    """An error for the person who reads it: what was found (the value), the rule it breaks, and the remedy. What it
    quotes, of records for one, is shown on terminals: control characters are escaped."""

    exit_code: ClassVar[int] = 70
    failure_class: ClassVar[str] = "Internal"

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = printable(message), printable(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[ZerotuneError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class ConfigurationError(ZerotuneError):
    """The spec is wrong, contradicts itself, or asks for what is not supported."""

    exit_code = 64
    failure_class = "Configuration"


class DataError(ZerotuneError):
    """A record or a file of the data is bad."""

    exit_code = 65
    failure_class = "Data"


class InputMissingError(ZerotuneError):
    """A file, folder, column or host that should be there is not."""

    exit_code = 66
    failure_class = "InputMissing"


class ForgettingError(ZerotuneError):
    """The perplexity of the control texts has risen further than `evaluation.maxControlPerplexityIncrease` allows."""

    exit_code = 67
    failure_class = "Forgetting"


class NameResolutionError(ZerotuneError):
    """Names of hosts of the job do not resolve."""

    exit_code = 68
    failure_class = "NameResolution"


class PeerLostError(ZerotuneError):
    """Another rank or node went away."""

    exit_code = 69
    failure_class = "PeerLost"


class InternalError(ZerotuneError):
    """Our bug, or one of a library."""

    exit_code = 70
    failure_class = "Internal"


class OutOfMemoryError(ZerotuneError):
    """The device or the host ran out of memory."""

    exit_code = 71
    failure_class = "OutOfMemory"


class HangError(ZerotuneError):
    """A rank stopped making progress."""

    exit_code = 72
    failure_class = "Hang"


class TemporaryError(ZerotuneError):
    """Trying again may help: a full disk, a port in use, a store that does not answer."""

    exit_code = 75
    failure_class = "Temporary"


class ModelChangedError(TemporaryError):
    """The model is of another shape than the one that the job was planned for."""

    failure_class = "ModelChanged"


class AuthenticationError(ZerotuneError):
    """A process that is not of the attempt took part in its rendezvous."""

    exit_code = 76
    failure_class = "Authentication"


class SupersededError(ZerotuneError):
    """A later attempt of the job has taken over the folder that this one writes to."""

    exit_code = 77
    failure_class = "Superseded"


class KilledError(ZerotuneError):
    """A rank was killed from outside (SIGKILL), and the kernel did not count it as out of memory."""

    exit_code = 137
    failure_class = "Killed"


class StoppedError(ZerotuneError):
    """Stopped on request, after a checkpoint where there was something to keep."""

    exit_code = 143
    failure_class = "Stopped"


class Failure(BaseModel):
    """A failure as it travels: rank > launcher > termination message > the resource's `rootCause`."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid")

    failure_class: str = Field(alias="class")
    message: str
    hint: str = ""
    rank: int | None = None
    host: str | None = None
    step: int | None = None
    exit_code: int = Field(alias="exitCode")

    def termination_message(self) -> str:
        """This failure as JSON of at most `TERMINATION_MESSAGE_LIMIT` bytes: long texts are cut."""
        # A text's escapes make it longer in JSON than in bytes, by up to six times.
        for limit in (TERMINATION_MESSAGE_LIMIT, 3600, 2400, 1600, 800, 400, 100):
            texts = {name: _cut(getattr(self, name), limit) for name in ("message", "hint", "failure_class")}
            update = texts | {"host": None if self.host is None else _cut(self.host, limit)}
            text = self.model_copy(update=update).model_dump_json(by_alias=True, exclude_none=True)
            if len(text.encode()) <= TERMINATION_MESSAGE_LIMIT:
                break
        return text


def _cut(text: str, limit: int) -> str:
    """The beginning and the end of a text, in at most `limit` bytes."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{encoded[:half].decode(errors='ignore')} ... {encoded[-half:].decode(errors='ignore')}"


def error_of(failure: Failure) -> ZerotuneError:
    """The error that a failure describes; one of a class that is not among these is an InternalError."""
    return error_classes().get(failure.failure_class, InternalError)(failure.message, failure.hint)


def error_classes() -> dict[str, type[ZerotuneError]]:
    """Every error by its class, as a failure names it. An error that has the class of its base is not among them."""
    return {error.failure_class: error for error in _subclasses(ZerotuneError) if "failure_class" in vars(error)}


def _subclasses(kind: type[ZerotuneError]) -> Iterator[type[ZerotuneError]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
