"""What tests that fork ranks share."""

from __future__ import annotations

import os

import pytest

from zerotune_trainer.config import Launch
from zerotune_trainer.launching.forkserver import start_imports


@pytest.fixture(scope="session")
def warm_ranks() -> None:
    """Start importing what ranks need, once for all tests of this process that fork them."""
    start_imports(
        ["zerotune_trainer.infer", "zerotune_trainer.train", "zerotune_trainer.script"], Launch(cache_dir="/nowhere")
    )
    # The ranks have these now; other programs that tests of this process start look for modules beside their script,
    # and tests themselves read what they please.
    for name in ("PYTHONSAFEPATH", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"):
        del os.environ[name]
