"""The quick start: a small model learns from the CWE catalogue and answers questions, all on this machine's CPU.

    python examples/quickstart/quickstart.py

    prepare.py   texts, questions, a tokenizer and a model with random weights
    cpt.yaml     FineTuneJob   reads the texts                   two nodes, ZeRO
    sft.yaml     FineTuneJob   learns to answer                  two nodes, ZeRO, from the output of cpt.yaml
    ask.yaml     InferenceJob  answers questions held out        two nodes, from the output of sft.yaml

Everything goes to `build/quickstart` below the current folder, the jobs' state too. Run again, it goes on where it
stopped, and what is finished is not done again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from prepare import HELD_OUT, prepare
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

HERE = Path(__file__).parent
WORK = Path("build/quickstart")
ZEROTUNE = Path(sys.executable).with_name("zerotune")
JOBS = {
    "cpt.yaml": "Continued pre-training on the catalogue's text",
    "sft.yaml": "Supervised fine-tuning on questions and answers",
    "ask.yaml": "Inference over questions about weaknesses held out",
}
SHOWN = ("What is", "When is", "What are the consequences")
"""An answer is shown for the first question that begins with each of these."""

console = Console(highlight=False)


def main() -> None:
    """Prepare, run the three jobs, show what came of it."""
    started = time.monotonic()
    os.environ |= {"ZEROTUNE_HOME": str(WORK / "jobs"), "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"}
    heading("Texts, questions, a tokenizer and a small model")
    prepare(WORK)
    for manifest, title in JOBS.items():
        heading(title)
        run(HERE / manifest)
    heading("What came of it")
    show_perplexity()
    show_answers()
    show_places()
    console.print(f"\nAll of this took {time.monotonic() - started:.0f} seconds.")


def run(manifest: Path) -> None:
    """`zerotune run MANIFEST`; a job that fails has said why, and ends the quick start with its exit code."""
    console.print(f"[dim]$ zerotune run {os.path.relpath(manifest)}[/dim]")
    ended = subprocess.run([ZEROTUNE, "run", manifest], check=False)
    if ended.returncode:
        sys.exit(ended.returncode)


def show_perplexity() -> None:
    """How surprised the model is by text it never saw: of how many equally likely tokens it would have to guess."""
    table = Table("Held-out perplexity", "before", "after", title_justify="left")
    for name, text in (("cwe-cpt", f"texts of {HELD_OUT} weaknesses"), ("cwe-sft", "answers to questions on them")):
        results = json.loads((WORK / "output" / name / "results.json").read_text())
        table.add_row(f"{name}: {text}", f"{results['firstPerplexity']:.1f}", f"{results['perplexity']:.1f}")
    console.print(table)


def show_answers() -> None:
    """Three questions with both answers, the model's and the catalogue's.

    A model this small, trained for two minutes, learns the form of an answer and not the facts.
    """
    records = read_answers(WORK / "output" / "cwe-ask")
    for beginning in SHOWN:
        record = next(record for record in records if record["question"].startswith(beginning))
        lines = Table.grid(padding=(0, 2))
        lines.add_row("model", escape(record["answer"]))
        lines.add_row("catalogue", escape(record["reference"]))
        console.print(f"\n[bold]{escape(record['question'])}[/bold]", Padding(lines, (0, 2)), sep="\n")


def read_answers(folder: Path) -> list[dict[str, Any]]:
    """The records of an InferenceJob, in the order of its input."""
    return [json.loads(line) for part in sorted(folder.glob("part-*.jsonl")) for line in part.open(encoding="utf-8")]


def show_places() -> None:
    """Where everything is, and what to do with it."""
    console.print("\nReports, to be opened in a browser:")
    for name in ("cwe-cpt", "cwe-sft"):
        console.print(f"  {(WORK / 'output' / name / 'report.html').absolute().as_uri()}", soft_wrap=True)
    places = Table.grid(padding=(0, 2))
    places.add_row("Model", str(WORK / "output" / "cwe-sft"))
    places.add_row("Answers", str(WORK / "output" / "cwe-ask"))
    places.add_row("Jobs", f"ZEROTUNE_HOME={WORK / 'jobs'} {os.path.relpath(ZEROTUNE)} status")
    places.add_row("Start over", f"rm -r {WORK}")
    console.print(places, soft_wrap=True)


def heading(title: str) -> None:
    """A line between two steps."""
    console.rule(f"[bold]{title}[/bold]", align="left")


if __name__ == "__main__":
    main()
