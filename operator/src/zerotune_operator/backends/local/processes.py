"""The processes of an attempt: start, ask how far they are, stop. Each node leads a process group of its own.

A node's standard input is a pipe from the runner. When the runner dies, whatever killed it, the pipe ends and the node
stops as on SIGTERM: no node outlives its runner for longer than it takes to save a checkpoint.
"""

from __future__ import annotations

import os
import signal
import subprocess
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from pydantic import ValidationError

from zerotune_operator.backends.local.render import NodeProcess
from zerotune_operator.lifecycle.observation import NodeObservation
from zerotune_trainer.errors import Failure
from zerotune_trainer.progress import NodeProgress

_PROGRESS_TIMEOUT_SECONDS = 2.0


class RunningNode:
    """A node that was started."""

    def __init__(self, node: NodeProcess, progress_port: int, lock: int) -> None:
        """Start it; `lock` is a file descriptor that it keeps open as long as it lives."""
        self._node = node
        self._progress_port = progress_port
        self._progress: NodeProgress | None = None
        self._ended_at: datetime | None = None
        with node.log.open("ab") as log:
            self._process = subprocess.Popen(
                node.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | node.environment,
                process_group=0,
                pass_fds=[lock],
            )

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def observe(self) -> NodeObservation:
        """Its state now. A node that does not answer keeps its last progress."""
        if not self.ended:
            self._progress = _ask(self._node.host, self._progress_port) or self._progress
            return NodeObservation(self._node.host, "running", progress=self._progress)
        if self._ended_at is None:
            self._ended_at = datetime.now(UTC)
            self.signal(signal.SIGKILL)  # ranks that a killed launcher left behind
        return NodeObservation(
            host=self._node.host,
            state="ended",
            exit_code=self._process.returncode,
            ended_at=self._ended_at,
            failure=read_failure(self._node.termination_message),
            progress=self._progress,
        )

    def terminate(self) -> None:
        """Ask the launcher to save and end; it signals its ranks itself."""
        if not self.ended:
            self._process.terminate()

    def release(self) -> None:
        """End its standard input: a launcher that still runs has its ranks save and ends."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the launcher and all of its ranks."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return  # the whole group has ended


def read_failure(path: Path) -> Failure | None:
    """The termination message a node left; None where it ended without one."""
    if not path.is_file():
        return None
    try:
        return Failure.model_validate_json(path.read_bytes())
    except ValidationError:
        return None  # cut off by what killed the node


def _ask(host: str, port: int) -> NodeProgress | None:
    connection = HTTPConnection(host, port, timeout=_PROGRESS_TIMEOUT_SECONDS)  # not urllib: it would ask a proxy
    try:
        connection.request("GET", "/progress")
        return NodeProgress.model_validate_json(connection.getresponse().read())
    except (OSError, HTTPException):
        return None  # not serving yet, or no longer
    finally:
        connection.close()
