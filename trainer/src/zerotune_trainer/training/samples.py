"""Where generated texts are kept until the output is made of them: a file an evaluation, beside the metrics."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from zerotune_trainer.reporting.results import SAMPLES_NAME
from zerotune_trainer.storage import Folder

_FOLDER = ".samples"


def samples_path(step: int) -> str:
    """The file with the texts of an evaluation, below the output."""
    return f"{_FOLDER}/step-{step}.jsonl"


def collect_samples(output: Folder, draft: Path, steps: Iterable[int]) -> None:
    """Write the texts of all evaluations to one file, where there are any."""
    parts = []
    for step in dict.fromkeys(steps):
        output.fetch(samples_path(step))
        path = output.local / samples_path(step)
        if path.is_file():
            parts.append(path.read_text(encoding="utf-8"))
    if parts:
        (draft / SAMPLES_NAME).write_text("".join(parts), encoding="utf-8")


def discard_samples(output: Folder) -> None:
    """Remove what the output does not need any more."""
    output.remove(_FOLDER)
