"""Every command of the README is run, in its order, as a newcomer would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLUSTER_SECTION = "## Run jobs on a cluster"


def blocks(text: str) -> list[str]:
    """The shell commands of a part of the README."""
    return re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


README = (ROOT / "README.md").read_text()
BEFORE, _, REST = README.partition(CLUSTER_SECTION)
ON_CLUSTER, _, AFTER = REST.partition("\n## ")
BLOCKS = blocks(BEFORE) + blocks(AFTER)
LINKS = re.findall(r"\]\((?!http)([^)]+)\)", README)
RUNS_THIS_TEST = "make test"


def run(command: str, earlier: list[str], environment: dict[str, str]) -> str:
    """What a command prints, after the lines before it that set variables, as in a newcomer's shell."""
    script = "\n".join([*(line for line in earlier if line.startswith(("export ", "eval "))), command])
    done = subprocess.run(
        ["bash", "-euc", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_command_does_what_the_readme_says() -> None:
    commands = [line for block in BLOCKS for line in block.splitlines() if line != RUNS_THIS_TEST]
    # One short pair shows that a benchmark runs; its figures come from a run of its own on a quiet machine.
    environment = os.environ | {"BENCH_ARGUMENTS": "--pairs 1 --steps 3"}
    # A second run would only say that all is finished.
    shutil.rmtree(ROOT / "build" / "quickstart", ignore_errors=True)
    printed = {}
    for number, command in enumerate(commands):
        printed[command] = run(command, commands[:number], environment)
    assert "Held-out perplexity" in printed["make quickstart"]
    assert len(re.findall(r"^ +catalogue ", printed["make quickstart"], flags=re.MULTILINE)) == 3
    assert "report.html" in printed["make quickstart"]


@pytest.mark.cluster
@pytest.mark.timeout(1800)
def test_every_command_about_a_cluster_does_what_the_readme_says() -> None:
    path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
    commands = [line for block in blocks(ON_CLUSTER) for line in block.splitlines()]
    first_of_the_end = next(number for number, line in enumerate(commands) if "delete namespace" in line)
    printed = {}
    # A newcomer's cluster does not know our kinds.
    kubectl = "kubectl delete crd --ignore-not-found finetunejobs.zerotune.dev inferencejobs.zerotune.dev"
    run(kubectl, commands[:first_of_the_end], os.environ | {"PATH": path})
    try:
        for number, command in enumerate(commands[:first_of_the_end]):
            printed[command] = run(command, commands[:number], os.environ | {"PATH": path})
    finally:
        for command in commands[first_of_the_end:]:
            run(command, commands[:first_of_the_end], os.environ | {"PATH": path})
    shown = next(text for command, text in printed.items() if command.startswith("kubectl get"))
    assert re.findall(r"cwe-(cpt|sft|ask) .* (Succeeded) ", shown) == [
        ("cpt", "Succeeded"),
        ("sft", "Succeeded"),
        ("ask", "Succeeded"),
    ]


def test_the_test_command_is_the_one_ci_runs() -> None:
    assert RUNS_THIS_TEST in [line for block in BLOCKS for line in block.splitlines()]
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith(f"exec {RUNS_THIS_TEST}")


@pytest.mark.parametrize("link", LINKS)
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
