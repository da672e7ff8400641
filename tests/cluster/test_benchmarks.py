"""The README's benchmarks that install nothing on the cluster run: beside its other tests."""

from __future__ import annotations

import pytest

from tests.readme.commands import HERE, INSTALL_NOTHING, on_a_cluster_of_ours, run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900), on_a_cluster_of_ours]


@pytest.mark.parametrize("command", INSTALL_NOTHING)
def test_a_benchmark_on_a_cluster_runs(command: str) -> None:
    assert command in HERE
    assert "ratio" in run(command, HERE, {"KEEP_CLUSTER": "1"})
