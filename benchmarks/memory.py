"""Peak memory of a process and all its descendants, from the kernel's own high-water marks."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import psutil

INTERVAL_SECONDS = 0.2
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


class PeakMemory:
    """Watches a process tree in a thread until it has ended."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peaks: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> list[int]:
        """Peak resident bytes of every process there was, the largest first."""
        self._ended.set()
        self._thread.join()
        return sorted(self._peaks.values(), reverse=True)

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL_SECONDS):
            for pid in self._pids():
                self._peaks[pid] = max(_peak(pid), self._peaks.get(pid, 0))

    def _pids(self) -> list[int]:
        try:
            return [self._pid, *(child.pid for child in psutil.Process(self._pid).children(recursive=True))]
        except psutil.NoSuchProcess:
            return []


def _peak(pid: int) -> int:
    try:
        found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) * 1024 if found else 0
