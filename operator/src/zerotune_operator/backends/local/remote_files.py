"""Small files of stores that only the trainer has clients for, and the sizes of files there, read by a process of their
own: no client comes in here.
"""

from __future__ import annotations

import json
import subprocess
import sys

from pydantic import ValidationError

from zerotune_trainer.errors import Failure, InternalError, TemporaryError, ZerotuneError, error_of

_SCRIPT = """
import json, sys
from zerotune_trainer.errors import ZerotuneError
from zerotune_trainer.failures import describe
from zerotune_trainer.storage import file_sizes, read_bytes
try:
    sys.stdout.buffer.write({expression})
except ZerotuneError as error:
    sys.exit(describe(error).termination_message())
"""
_READ = _SCRIPT.format(expression="read_bytes(sys.argv[1])")
_SIZES = _SCRIPT.format(expression="json.dumps(file_sizes(sys.argv[1])).encode()")
_TIMEOUT_SECONDS = 120


def read_remote(uri: str) -> bytes:
    """The content of a file at `s3://`.

    Raises:
        InputMissingError: it is not there.
        ConfigurationError: access denied.
        TemporaryError: the store does not answer.
        InternalError: the process that reads failed for another reason.
    """
    return _run(_READ, uri)


def remote_sizes(uri: str) -> dict[str, int]:
    """Bytes of the files below a folder at `s3://`, by their paths below it.

    Raises:
        ConfigurationError, TemporaryError, InternalError: as `read_remote`.
    """
    found: dict[str, int] = json.loads(_run(_SIZES, uri))
    return found


def _run(script: str, uri: str) -> bytes:
    try:
        answer = subprocess.run(
            (sys.executable, "-c", script, uri), capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
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
