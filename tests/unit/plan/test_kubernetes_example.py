"""The example for a cluster is planned as it is, and for GPUs as its head says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "kubernetes" / "jobs.yaml"
MODEL = ROOT / "tests" / "golden" / "plan" / "models" / "tiny-llama.json"


@pytest.mark.parametrize(("below_nodes", "ranks"), [("", 2), ("gpusPerNode: 8", 16)])
def test_the_example_is_planned(tmp_path: Path, below_nodes: str, ranks: int) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(EXAMPLE.read_text().replace("    nodes: 2\n", f"    nodes: 2\n    {below_nodes}\n"))
    command = [Path(sys.executable).with_name("zerotune"), "plan", path, "--model-config", MODEL, "-o", "json"]

    planned = subprocess.run(command, capture_output=True, text=True)

    assert (planned.returncode, planned.stderr) == (0, "")
    hostfiles = [plan["artifacts"]["hostfile"] for plan in json.loads(planned.stdout)]
    assert [len(hosts.splitlines()) for hosts in hostfiles] == [2, 2, 2]
    assert all(hosts.count(f"slots={ranks // 2}\n") == 2 for hosts in hostfiles)


def test_the_head_of_the_example_says_what_is_tested() -> None:
    assert "With `gpusPerNode: 8` below each `nodes: 2`" in EXAMPLE.read_text()
