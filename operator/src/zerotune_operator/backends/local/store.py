"""Small files of stores that only the trainer has clients for, read by a process of their own: none comes in here."""

from __future__ import annotations

import subprocess
import sys

from zerotune_trainer.errors import InputMissingError

_READ = "import sys; from zerotune_trainer.storage import read_bytes; sys.stdout.buffer.write(read_bytes(sys.argv[1]))"
_TIMEOUT_SECONDS = 120


def read_remote(uri: str) -> bytes:
    """The content of a file at `s3://` or another store.

    Raises:
        InputMissingError: it is not there, or cannot be read.
    """
    try:
        answer = subprocess.run(
            (sys.executable, "-c", _READ, uri), capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputMissingError(
            f"{uri} could not be read in {_TIMEOUT_SECONDS} s", "see whether its store answers"
        ) from error
    if answer.returncode != 0:
        reason = answer.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise InputMissingError(
            f"{uri} cannot be read: {' '.join(reason)}", "check the URI and the keys in the environment"
        )
    return answer.stdout
