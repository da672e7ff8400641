"""Commands that run at the same time: each line that one prints is passed on behind a label."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run(label: str, command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
    """Run a command to its end.

    Raises:
        subprocess.CalledProcessError: it failed; why is in what was passed on.
    """
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout
        for line in process.stdout:
            print(f"{label} | {line.rstrip()}", flush=True)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
