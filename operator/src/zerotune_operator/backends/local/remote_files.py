"""Small files of stores that only the trainer has clients for, read by a process of their own: none comes in here."""

from __future__ import annotations

import subprocess
import sys

from pydantic import ValidationError

from zerotune_trainer.errors import Failure, InternalError, TemporaryError, ZerotuneError, error_of

_READ = """
import sys
from zerotune_trainer.errors import ZerotuneError
from zerotune_trainer.failures import describe
from zerotune_trainer.storage import read_bytes
try:
    sys.stdout.buffer.write(read_bytes(sys.argv[1]))
except ZerotuneError as error:
    sys.exit(describe(error).termination_message())
"""
_TIMEOUT_SECONDS = 120


def read_remote(uri: str) -> bytes:
    """The content of a file at `s3://`.

    Raises:
        InputMissingError: it is not there.
        ConfigurationError: access denied.
        TemporaryError: the store does not answer.
        InternalError: the process that reads failed for another reason.
    """
    try:
        answer = subprocess.run(
            (sys.executable, "-c", _READ, uri), capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TemporaryError(
            f"{uri} could not be read in {_TIMEOUT_SECONDS} s", "see whether its store answers"
        ) from error
    if answer.returncode != 0:
        raise _error_of(uri, answer.stderr.decode(errors="replace").strip())
    return answer.stdout


def _error_of(uri: str, output: str) -> ZerotuneError:
    last = (output.splitlines() or ["it printed nothing"])[-1]
    try:
        failure = Failure.model_validate_json(last)
    except ValidationError:
        return InternalError(f"{uri} could not be read: {last}", "see that the trainer's packages are installed here")
    return error_of(failure)
