"""The local backend: `zerotune_operator.backends.base.Backend` with processes of this machine."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from zerotune_operator.backends.local.output import complete_output, final_progress
from zerotune_operator.backends.local.processes import RunningNode
from zerotune_operator.backends.local.render import LocalAttempt, render
from zerotune_operator.backends.local.state import JobFolder
from zerotune_operator.lifecycle.observation import Observation
from zerotune_operator.plan import Plan
from zerotune_trainer.config import RENDEZVOUS_FILE
from zerotune_trainer.errors import TemporaryError


class LocalBackend:
    """Runs one job, an attempt at a time. Its processes end when it does."""

    def __init__(self, folder: JobFolder, devices: Sequence[str], lock: int) -> None:
        """`devices`: CUDA devices of all ranks, in rank order; `lock`: of `folder.locked()`."""
        self._folder = folder
        self._devices = devices
        self._lock = lock
        self._launcher = str(Path(sys.executable).with_name("zerotune-launch"))
        self._running: dict[str, RunningNode] = {}
        self._attempt: int | None = None

    def render(self, plan: Plan) -> LocalAttempt:
        """The files and processes of the attempt that `plan` is for."""
        return render(plan, self._folder.attempt(plan.config.job.attempt), self._launcher, self._devices)

    async def apply(self, rendered: LocalAttempt) -> None:
        """Write the folder and start the nodes that are not started.

        Raises:
            TemporaryError: the folder cannot be written.
        """
        if rendered.number == self._attempt:
            return
        try:
            _write(rendered)
        except OSError as error:
            raise TemporaryError(
                f"{rendered.folder} cannot be written: {error.strerror}", "free some space there, then run again"
            ) from error
        self._attempt = rendered.number
        self._running = {node.host: RunningNode(node, rendered.progress_port, self._lock) for node in rendered.nodes}

    async def observe(self, rendered: LocalAttempt) -> Observation:
        """What the nodes do; once all have ended, also whether the output is complete."""
        nodes = await asyncio.gather(*(asyncio.to_thread(self._running[node.host].observe) for node in rendered.nodes))
        ended = all(node.state == "ended" for node in nodes)
        output = await asyncio.to_thread(complete_output, *rendered.output) if ended else None
        final = await asyncio.to_thread(final_progress, output) if output else None
        return Observation(rendered.number, tuple(nodes), output, final)

    async def stop(self, rendered: LocalAttempt) -> None:
        """SIGTERM to every launcher: it has its ranks save and ends."""
        for node in rendered.nodes:
            self._running[node.host].terminate()

    def kill(self) -> None:
        """SIGKILL to every process of every node."""
        for node in self._running.values():
            node.signal(signal.SIGKILL)


def _write(rendered: LocalAttempt) -> None:
    rendered.folder.mkdir(mode=0o700, exist_ok=True)
    for name, text in rendered.files.items():
        (rendered.folder / name).write_text(text)
    secret = rendered.folder / RENDEZVOUS_FILE
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_hex(32))
    for node in rendered.nodes:
        node.termination_message.unlink(missing_ok=True)
