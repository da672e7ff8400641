"""What tests that fork ranks share."""

from __future__ import annotations

import os

import pytest

from zerotune_devtools.compiled import libaio
from zerotune_devtools.compiled.async_io import keep_async_io
from zerotune_trainer.config import Launch
from zerotune_trainer.launching.forkserver import start_imports

# Ranks have the variables of the process that they are forked from, which the first test that forks any starts.
os.environ.update(libaio.compiler_variables())


@pytest.fixture(scope="session")
def async_io() -> None:
    """DeepSpeed's operator async_io, compiled before ranks are forked: the first time that takes minutes."""
    keep_async_io()


@pytest.fixture(scope="session")
def warm_ranks() -> None:
    """Start importing what ranks need, once for all tests of this process that fork them."""
    payloads = ["zerotune_trainer.infer", "zerotune_trainer.train", "zerotune_trainer.script"]
    start_imports([*payloads, "zerotune_devtools.compiled.async_io"], Launch(cache_dir="/nowhere"))
    # The ranks have these now; other programs that tests of this process start look for modules beside their script,
    # and tests themselves read what they please.
    for name in ("PYTHONSAFEPATH", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"):
        del os.environ[name]
