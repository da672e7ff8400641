"""Processes of a test run that use the cluster at the same time, and one that needs it for itself.

A file of tests on the cluster shares it with others, from its first test to its last. Those that delete what others
need, or stop it, are alone with it until the last of them has run.
"""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from pathlib import Path
from typing import IO

import pytest

ALONE = ("tests/readme/test_cluster_commands.py", "tests/bed/")
"""They install and delete what others on the cluster need, or stop it."""
_LOCK = Path(__file__).parents[1] / "build" / "tests-on-the-cluster.lock"


class ClusterTurns:
    """Takes the lock before the first test of a file, where no time limit of a test runs yet, and gives it back."""

    def __init__(self) -> None:
        self._held: IO[bytes] | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Run a test in its file's turn."""
        if self._held is None and item.get_closest_marker("cluster"):
            self._held = _acquire(alone=_turn(item) == "alone")
        try:
            return (yield)
        finally:
            if self._held and (nextitem is None or _turn(nextitem) != _turn(item)):
                self._held.close()
                self._held = None


def _turn(item: pytest.Item) -> str:
    return "alone" if item.nodeid.startswith(ALONE) else item.nodeid.partition("::")[0]


def _acquire(*, alone: bool) -> IO[bytes]:
    _LOCK.parent.mkdir(exist_ok=True)
    lock = _LOCK.open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    return lock
