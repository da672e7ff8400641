"""What all tests share."""

import pytest
from hypothesis import settings

# A run says the same of the same code: the examples are fixed, and how long one takes on a busy machine is no failure.
# New ones are looked for by `pytest --hypothesis-profile=explore`.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests stay together where `--dist loadgroup` gives them to several processes.

    All that use the one release of the chart share it, and with it a process; the others go file by file.
    """
    for item in items:
        shared = "installation" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("installation" if shared else str(item.path)))


@pytest.fixture
def anyio_backend() -> str:
    """The operator is an asyncio program."""
    return "asyncio"
