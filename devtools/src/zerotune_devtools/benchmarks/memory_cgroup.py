"""A cgroup that bounds the memory of a command: page cache counts too, and there is no swap. Takes root.

cgroup v2 where its memory controller is to be had, else v1 (Linux, admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_INTERVAL_SECONDS = 0.2
_REMOVING_SECONDS = 30


@dataclass(frozen=True)
class _Version:
    """The files of a hierarchy."""

    root: Path
    limits: tuple[str, ...]
    peak: str
    anonymous: str
    """The line of `memory.stat` with memory that no file backs."""
    swap_limit_is_extra: bool


_V1 = _Version(
    Path("/sys/fs/cgroup/memory"),
    ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    "memory.max_usage_in_bytes",
    "total_rss",
    False,
)
_V2 = _Version(Path("/sys/fs/cgroup"), ("memory.max", "memory.swap.max"), "memory.peak", "anon", True)


@dataclass(frozen=True)
class Usage:
    """What the processes of a cgroup took, in bytes."""

    peak: int
    """As the kernel counts it for the limit: with page cache, which it gives back under pressure."""
    anonymous: int
    """The most seen of what no file backs."""


class MemoryCgroup:
    """A cgroup that is there; see `memory_cgroup`."""

    def __init__(self, path: Path, version: _Version) -> None:
        self._path, self._version = path, version
        self._anonymous = 0

    def run(self, command: Sequence[str | Path], log: Path, variables: dict[str, str]) -> Usage:
        """Run a command in it to its end; one that fails ends the benchmark with its last lines.

        Args:
            command: The command.
            log: Receives what it prints.
            variables: Its environment.
        """
        enter = ["sh", "-c", f'echo $$ > {self._path}/cgroup.procs && exec "$@"', "sh"]
        with log.open("wb") as file:
            process = subprocess.Popen([*enter, *map(str, command)], stdout=file, stderr=file, env=variables)
            watch = threading.Thread(target=self._watch, args=(process,))
            watch.start()
            code = process.wait()
            watch.join()
        if code:
            lines = log.read_text(errors="replace").splitlines()
            sys.exit("\n".join([*lines[-30:], f"exit code {code}: {' '.join(map(str, command))}"]))
        return Usage(int((self._path / self._version.peak).read_text()), self._anonymous)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        pattern = re.compile(rf"^{self._version.anonymous} (\d+)$", re.MULTILINE)
        while process.poll() is None:
            found = pattern.search((self._path / "memory.stat").read_text())
            self._anonymous = max(self._anonymous, int(found[1]) if found else 0)
            time.sleep(_INTERVAL_SECONDS)


@contextmanager
def memory_cgroup(name: str, limit: int) -> Iterator[MemoryCgroup]:
    """Make a cgroup whose processes have `limit` bytes of memory together, and remove it when they have ended."""
    version = _version()
    path = version.root / f"zerotune-{name}-{os.getpid()}"
    path.mkdir()
    try:
        for file, value in zip(version.limits, (limit, 0 if version.swap_limit_is_extra else limit), strict=True):
            if (path / file).exists():  # A kernel may count no swap.
                (path / file).write_text(str(value))
        yield MemoryCgroup(path, version)
    finally:
        _remove(path)


def _version() -> _Version:
    if os.geteuid() != 0:
        sys.exit("a cgroup with a limit of memory takes root")
    controllers = _V2.root / "cgroup.controllers"
    if controllers.is_file() and "memory" in controllers.read_text().split():
        (_V2.root / "cgroup.subtree_control").write_text("+memory")
        return _V2
    if (_V1.root / _V1.limits[0]).is_file():
        return _V1
    sys.exit("this machine has no memory controller, neither of cgroup v2 nor of v1: no limit can be set")


def _remove(path: Path) -> None:
    deadline = time.monotonic() + _REMOVING_SECONDS
    for pid in (path / "cgroup.procs").read_text().split():
        os.kill(int(pid), 9)
    while True:
        try:
            path.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_INTERVAL_SECONDS)
        else:
            return
