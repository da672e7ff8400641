"""The lock of the cluster, which processes of a test run hold shared, or one of them exclusively.

A file of tests on the cluster holds it shared from its first test to its last. Those that delete what others need, or
stop the cluster, hold it exclusively until the last of them has run.
"""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from pathlib import Path
from typing import IO

import pytest

EXCLUSIVE = ("tests/readme/test_cluster_commands.py", "tests/bed/")
"""They install and delete what others on the cluster need, or stop it."""
_LOCK = Path(__file__).parents[1] / "build" / "tests-on-the-cluster.lock"


class ClusterLock:
    """Takes the lock before the first test of a file, where no time limit of a test runs yet, and gives it back."""

    def __init__(self) -> None:
        self._held: IO[bytes] | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Run a test while its process holds the lock."""
        if self._held is None and item.get_closest_marker("cluster"):
            self._held = _acquire(_scope(item))
        try:
            return (yield)
        finally:
            if self._held and (nextitem is None or _scope(nextitem) != _scope(item)):
                self._held.close()
                self._held = None


def _scope(item: pytest.Item) -> str:
    """The tests for which the lock is acquired once."""
    return "exclusive" if item.nodeid.startswith(EXCLUSIVE) else item.nodeid.partition("::")[0]


def _acquire(scope: str) -> IO[bytes]:
    _LOCK.parent.mkdir(exist_ok=True)
    lock = _LOCK.open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX if scope == "exclusive" else fcntl.LOCK_SH)
    return lock
