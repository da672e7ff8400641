"""Every command of the READMEs is run, in its order, as a newcomer would, but for those that say here why not."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.readme.commands import (
    BENCHMARKS,
    HERE,
    IN_THE_TEXT,
    LINKS,
    NEED_A_CLUSTER,
    NOT_RUN,
    README,
    ROOT,
    RUNS_THIS_TEST,
    run,
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_command_does_what_the_readme_says() -> None:
    commands = [line for line in HERE if line not in [*NOT_RUN, *BENCHMARKS, *NEED_A_CLUSTER]]
    # A second run would only say that all is finished.
    shutil.rmtree(ROOT / "build" / "quickstart", ignore_errors=True)
    printed = {}
    for number, command in enumerate(commands):
        printed[command] = run(command, commands[:number])
    assert "Held-out perplexity" in printed["make quickstart"]
    assert len(re.findall(r"^ +catalogue ", printed["make quickstart"], flags=re.MULTILINE)) == 3
    assert "report.html" in printed["make quickstart"]
    for command in IN_THE_TEXT:
        assert run(command, [])


def test_the_test_command_is_the_one_ci_runs() -> None:
    assert RUNS_THIS_TEST in HERE
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith(f"exec {RUNS_THIS_TEST}")


def test_what_is_not_run_is_in_the_readme() -> None:
    for command in NOT_RUN:
        assert command in HERE or f"`{command}`" in README


@pytest.mark.parametrize(("path", "link"), LINKS)
def test_every_link_leads_somewhere(path: Path, link: str) -> None:
    name, _, heading = link.partition("#")
    found = path.parent / name if name else path
    assert found.exists()
    if heading:
        headings = re.findall(r"^#+ (.+)$", found.read_text(), flags=re.MULTILINE)
        assert heading in [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]
