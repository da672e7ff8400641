"""What all tests share."""

import pytest
from hypothesis import settings

# How long an example takes says nothing about it on a machine that does other things too.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def anyio_backend() -> str:
    """The operator is an asyncio program."""
    return "asyncio"
