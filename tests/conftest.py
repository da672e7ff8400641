"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling, Scheduling
from xdist.workermanage import Producer

from tests.cluster_lock import EXCLUSIVE, ClusterLock

# A run says the same of the same code: the examples are fixed, and how long one takes on a busy machine is no failure.
# New ones are looked for by `pytest --hypothesis-profile=explore`.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("repeatable")

_ONE_PROCESS = (*EXCLUSIVE, "tests/e2e/")
"""Tests that run one after the other: those that need the cluster for themselves, then those that share a release of
the chart, and the jobs that run there."""

_ORDER = ("tests/readme/test_cluster_commands.py", "tests/readme/", "tests/bed/", "tests/trainer/", "tests/unit/")
"""What takes longest of all comes first: begun last, it would run beside idle processes. What shares the cluster comes
last: until then it belongs to the tests that need it for themselves."""


class FileScheduling(LoadFileScheduling):
    """Gives a process whole files, as `--dist loadfile` does, and files that share something to the same process.

    `--dist loadgroup` would do the same by marks, but does not group under pytest 9.2:
    https://github.com/pytest-dev/pytest-xdist/issues/1386.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "one process" if nodeid.startswith(_ONE_PROCESS) else super()._split_scope(nodeid)


def pytest_configure(config: pytest.Config) -> None:
    """Have files of tests share the cluster, or hold it exclusively."""
    config.pluginmanager.register(ClusterLock())


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """The scheduler for `--dist loadfile`; the others are xdist's."""
    return FileScheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, and what shares the cluster last."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    return next((place for place, path in enumerate(_ORDER) if item.nodeid.startswith(path)), len(_ORDER))


@pytest.fixture
def anyio_backend() -> str:
    """The operator is an asyncio program."""
    return "asyncio"


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """Of a cluster that has images and CRDs, for operators on this machine."""
    # Only tests on a cluster need this: it imports an HTTP client and the operator's backend.
    from zerotune_devtools.harness.host_operator import prepare_cluster

    return prepare_cluster()
