"""What tests that fork ranks share."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from zerotune_devtools import libaio
from zerotune_trainer.config import Launch
from zerotune_trainer.launching.forkserver import start_imports

# Ranks have the variables of the process that they are forked from, which the first test that forks any starts.
os.environ.update(libaio.compiler_variables())


@pytest.fixture(scope="session")
def async_io() -> None:
    """DeepSpeed's operator async_io, which torch keeps: it is compiled once on a machine, in minutes."""
    libaio.unpack()
    subprocess.run(
        [sys.executable, "-c", "from zerotune_trainer.async_io import load_async_io as load; load()"], check=True
    )


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
