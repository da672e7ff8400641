"""Peak memory of a process and all its descendants, as the kernel counts it."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERVAL_SECONDS = 0.5


@dataclass(frozen=True)
class Peaks:
    """Bytes."""

    processes: list[int]
    """Peak resident set (VmHWM) of every process there was, the largest first."""
    together: int
    """Most that all processes held at one moment, a page they share counted once (the sum of their Pss)."""


class MemoryWatch:
    """Watches a process tree in a thread until `stop`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peaks: dict[int, int] = {}
        self._together = 0
        self._ended = threading.Event()
        # It keeps no process alive whose benchmark has failed.
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> Peaks:
        """What was seen."""
        self._ended.set()
        self._thread.join()
        return Peaks(sorted(self._peaks.values(), reverse=True), self._together)

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL_SECONDS):
            pids = self._pids()
            for pid in pids:
                self._peaks[pid] = max(peak_resident(pid), self._peaks.get(pid, 0))
            self._together = max(self._together, sum(_bytes(pid, "smaps_rollup", "Pss") for pid in pids))

    def _pids(self) -> list[int]:
        try:
            return [self._pid, *(child.pid for child in psutil.Process(self._pid).children(recursive=True))]
        except psutil.NoSuchProcess:
            return []


def peak_resident(pid: int) -> int:
    """Peak resident set of a process so far, in bytes; 0 where it has just ended."""
    return _bytes(pid, "status", "VmHWM")


def _bytes(pid: int, file: str, name: str) -> int:
    """A line `NAME: N kB` of a file in /proc/PID; 0 for a process that has just ended."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) * 1024 if found else 0
