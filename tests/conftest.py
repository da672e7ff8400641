"""What all tests share."""

import pytest
from hypothesis import settings

# A run says the same of the same code: the examples are fixed, and how long one takes on a busy machine is no failure.
# New ones are looked for by `pytest --hypothesis-profile=explore`.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("repeatable")


@pytest.fixture
def anyio_backend() -> str:
    """The operator is an asyncio program."""
    return "asyncio"
