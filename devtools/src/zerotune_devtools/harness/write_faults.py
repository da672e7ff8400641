"""Faults in the middle of writing: a process is killed, or finds its disk full, at a write of its choice."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.launching.worker import run_rank

WRITES = ("open", "os.rename", "os.link", "os.mkdir")
"""Audit events of Python that put something into a folder; the first is distinguished by its flags."""
DEATH = "dies-at-write.json"
"""In a job's folder: which `rank` dies `below` which folder, at the write of which `number`."""


def at_write(number: int, below: Path, action: Callable[[], None]) -> None:
    """Have something happen instead of this process's write of that number, from 0, below a folder."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if _is_write(event, arguments, str(below)):
            count += 1
            if count == number + 1:
                action()

    sys.addaudithook(hook)


def fill_disk() -> None:
    """What a write finds whose disk is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def kill() -> None:
    """End this process as the kernel does where memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def run_dying_rank(folder: Path, host: str, local_rank: int, pipe: Connection) -> None:
    """As `run_rank`, of a job whose folder says which rank is to die."""
    death = json.loads((folder / DEATH).read_bytes())
    first = Hostfile.parse((folder / "hostfile").read_text()).host(host).first_rank
    if first + local_rank == death["rank"]:
        at_write(death["number"], Path(death["below"]), kill)
    run_rank(folder, host, local_rank, pipe)


def _is_write(event: str, arguments: tuple[Any, ...], below: str) -> bool:
    if event not in WRITES or not str(arguments[0]).startswith(below):
        return False
    if event == "os.mkdir":
        # Where there is one already, a full disk is not noticed.
        return not os.path.lexists(arguments[0])
    return event != "open" or bool(int(arguments[2]) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
