"""What the probe noted of a run that generates, and whether runs generated the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerotune_devtools.benchmarks.workload import Run, finish, start

_MOST_DIFFERING = 0.02
"""The share of answers that may differ. One of 128 did, where the two largest logits were 7.84674 and 7.84673."""


class DifferentAnswersError(Exception):
    """Two sides did not do the same work, so that their times say nothing."""


@dataclass(frozen=True)
class Generations:
    """What one side did, from the first batch of its first process to the last batch of the last one."""

    wall: float
    """Seconds."""
    cpu: float
    """CPU seconds of all processes together."""
    first_token: float
    """Seconds from the start of the command until the prompts of the first batch have been run through the model."""
    answers: list[str]
    """In the order of the records."""


def measure(runs: Sequence[Run], work: Path) -> list[Generations]:
    """Run commands beside each other to their ends.

    Args:
        runs: The commands.
        work: Folder that holds what they share.
    """
    started = [start(run, work, probe=True) for run in runs]
    for run, (process, _) in zip(runs, started, strict=True):
        finish(run, process)
    return [_read(run, began) for run, (_, began) in zip(runs, started, strict=True)]


def require_same_answers(sides: Mapping[str, Generations]) -> dict[str, int]:
    """See that all sides generated the same.

    Returns:
        How many answers of each side differ from the first one's all the same: in batches of another shape, logits
        differ in their last digits, and of two tokens whose logits do not differ in more, either may be the greedy one.

    Raises:
        DifferentAnswersError: more answers differ than that explains.
    """
    found: dict[str, int] = {}
    reference = next(iter(sides.values())).answers
    for name, side in sides.items():
        if len(side.answers) != len(reference):
            raise DifferentAnswersError(f"{name} has {len(side.answers)} answers, not {len(reference)}")
        differing = [
            number for number, pair in enumerate(zip(side.answers, reference, strict=True)) if len({*pair}) > 1
        ]
        found[name] = len(differing)
        if len(differing) > _MOST_DIFFERING * len(reference):
            raise DifferentAnswersError(
                f"{name} has {len(differing)} other answers, the first of record {differing[0]}"
            )
    return found


def _read(run: Run, began: float) -> Generations:
    probed = run.output.with_name(f"{run.output.name}-probe")
    processes = [_lines(path) for path in probed.glob("*.generations")]
    if not processes:
        raise DifferentAnswersError(f"no process of {run.output.name} generated anything")
    batches = [batch for process in processes for batch in process]
    return Generations(
        wall=max(batch["ended"] for batch in batches) - min(batch["began"] for batch in batches),
        cpu=sum(process[-1]["cpu_ended"] - process[0]["cpu_began"] for process in processes),
        first_token=min(batch["first_token"] for batch in batches) - began,
        answers=_answers(run.output),
    )


def _answers(output: Path) -> list[str]:
    """Of parts in the order of their names, or of lines that have the number of their record."""
    rows = [row for path in sorted(output.glob("*-*.jsonl")) for row in _lines(path)]
    return [row["generation"] for row in sorted(rows, key=lambda row: row.get("record", 0))]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
