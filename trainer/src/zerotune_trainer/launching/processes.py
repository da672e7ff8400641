"""The processes below this one: none may outlive it. Torch-free."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import NoReturn

import psutil

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_SECONDS_TO_DIE = 5.0


def become_subreaper() -> None:
    """Become the parent of descendants whose parent dies, so that `end_descendants` finds them."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> None:
    """Kill every process below this one and wait until they have ended."""
    descendants = psutil.Process().children(recursive=True)
    for process in descendants:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(descendants, timeout=_SECONDS_TO_DIE)


def exit_now(code: int) -> NoReturn:
    """End this process and all below it at once: a stuck collective or exit handler cannot hold it up."""
    end_descendants()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def oom_kills(cgroups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """How many processes of this cgroup the kernel has killed for lack of memory; None where it does not report that.

    cgroup v2 counts them in `memory.events`, v1 in `memory.oom_control` (Linux, admin-guide/cgroup-v2.rst and
    cgroup-v1/memory.rst).
    """
    for candidate in _counters(cgroups, root):
        if candidate.is_file() and (match := re.search(r"^oom_kill (\d+)$", candidate.read_text(), re.MULTILINE)):
            return int(match[1])
    return None


def _counters(cgroups: Path, root: Path) -> list[Path]:
    lines = [line.split(":", 2) for line in cgroups.read_text().splitlines()] if cgroups.is_file() else []
    own = [
        root / path.lstrip("/") / "memory.events"
        if controllers == ""
        else root / "memory" / path.lstrip("/") / "memory.oom_control"
        for _, controllers, path in lines
        if controllers in ("", "memory")
    ]
    # In a container the path may be the node's, while the container sees its own group as the root.
    return [*own, root / "memory.events", root / "memory" / "memory.oom_control"]
