"""Every command of the README is run, in its order, as a newcomer would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
LINKS = re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / "README.md").read_text())
RUNS_THIS_TEST = "make test"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_command_does_what_the_readme_says() -> None:
    commands = [line for block in BLOCKS for line in block.splitlines() if line != RUNS_THIS_TEST]
    # One short pair shows that a benchmark runs; its figures come from a run of its own on a quiet machine.
    environment = os.environ | {"BENCH_ARGUMENTS": "--pairs 1 --steps 3"}
    # A second run would only say that all is finished.
    shutil.rmtree(ROOT / "build" / "quickstart", ignore_errors=True)
    printed = {}
    for number in range(len(commands)):
        # The line that sets PATH holds for all after it, as in a newcomer's shell.
        script = "\n".join([*(line for line in commands[:number] if line.startswith("export ")), commands[number]])
        done = subprocess.run(
            ["bash", "-euc", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{commands[number]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        printed[commands[number]] = done.stdout
    assert "Held-out perplexity" in printed["make quickstart"]
    assert len(re.findall(r"^ +catalogue ", printed["make quickstart"], flags=re.MULTILINE)) == 3
    assert "report.html" in printed["make quickstart"]


def test_the_test_command_is_the_one_ci_runs() -> None:
    assert RUNS_THIS_TEST in [line for block in BLOCKS for line in block.splitlines()]
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith(f"exec {RUNS_THIS_TEST}")


@pytest.mark.parametrize("link", LINKS)
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
