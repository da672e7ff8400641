"""The shell commands of the READMEs, and how they are run."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from zerotune_devtools import cluster

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", ROOT / "charts" / "zerotune" / "README.md"]
CLUSTER_SECTION = "## Run jobs on a cluster"
RUNS_THIS_TEST = "make test"
NOT_RUN = {
    RUNS_THIS_TEST: "it runs this test",
    "make check": "its parts are parts of `make test`",
    "make bench-inference": "minutes: its model is large enough for computing to dominate",
    "make bench-commits": "minutes: it takes ten million records",
    "make kill-inference": "minutes: tests/trainer/inference/test_exactly_once.py is its short form",
    "make bench-offload": "minutes, gigabytes on a disk: tests/trainer/inference/test_offload_nvme.py runs such jobs",
    "make images TORCH_BACKEND=cuda": "gigabytes for GPUs that are not here; the README says that it has not been seen",
    "make images TORCH_BACKEND=cuda VLLM=1": "as above: more than a disk of 20 GB free takes",
}
SHORT = {
    # One short pair or round shows that a benchmark runs; its figures come from a run of its own on a quiet machine.
    "make bench-startup": "--pairs 1 --steps 3",
    "make bench-train": "--pairs 1 --steps 3",
    "make bench-apply": "--pairs 1",
    "make bench-operator": "--jobs 8 --rounds 1",
    "make bench-storm": "--jobs 4 --rounds 1",
}
BENCHMARKS = ["make bench-startup", "make bench-train"]
NEED_A_CLUSTER = ["make bench-apply", "make bench-operator", "make bench-storm"]
"""Commands outside that section."""
INSTALL_NOTHING = NEED_A_CLUSTER[1:]
"""Those that other tests on the cluster may run beside."""
EXAMPLE_REGISTRY = "registry.example.com/team"
NEW_CLUSTER = "kubectl delete crd --ignore-not-found finetunejobs.zerotune.dev inferencejobs.zerotune.dev"
"""Makes a cluster one of a newcomer: it does not know our kinds."""


def blocks(text: str) -> list[list[str]]:
    """The shell commands of a part of a README."""
    found = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [block.replace("\\\n", "").splitlines() for block in found]


README, CHART_README = (path.read_text() for path in FILES)
BEFORE, _, REST = README.partition(CLUSTER_SECTION)
ON_CLUSTER, _, AFTER = REST.partition("\n## ")
HERE = [line for block in blocks(BEFORE) + blocks(AFTER) for line in block]
TRIAL, OWN_CLUSTER, TAKE_AWAY = blocks(ON_CLUSTER)
MAKES_CLUSTER = TRIAL[:2]
FENCED = {*HERE, *TRIAL, *OWN_CLUSTER, *TAKE_AWAY}
IN_THE_TEXT = sorted(set(re.findall(r"`(make [^`]+)`", README)) - FENCED - NOT_RUN.keys())
DOCUMENTS = [*FILES, *(ROOT / "docs").glob("*.md")]
LINKS = [(path, link) for path in DOCUMENTS for link in re.findall(r"\]\((?!http)([^)]+)\)", path.read_text())]

on_a_cluster_of_ours = pytest.mark.skipif(
    cluster.named() is not None,
    reason="ZEROTUNE_KUBECONFIG names a cluster: the READMEs' commands would delete the kinds, and every job with them",
)


def run(command: str, earlier: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What a command prints, after the lines before it that set variables, as in a newcomer's shell."""
    script = "\n".join([*(line for line in earlier if line.startswith(("export ", "eval "))), command])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={**os.environ, "BENCH_ARGUMENTS": SHORT.get(command, ""), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout
