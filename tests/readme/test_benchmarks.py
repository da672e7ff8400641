"""The README's benchmarks that need no cluster run: a file of its own, for another process than the other commands."""

from __future__ import annotations

import pytest

from tests.readme.commands import BENCHMARKS, HERE, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("command", BENCHMARKS)
def test_a_benchmark_on_this_machine_runs(command: str) -> None:
    assert command in HERE
    assert "ratio" in run(command, HERE)
