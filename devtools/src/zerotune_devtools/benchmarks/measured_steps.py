"""The steps of a run with the peak memory of its ranks, and what two runs come to beside each other."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from zerotune_devtools.benchmarks.memory import MemoryWatch
from zerotune_devtools.benchmarks.pairs import Comparison
from zerotune_devtools.benchmarks.steps import DifferentTrainingError, Steps, require_same_training
from zerotune_devtools.benchmarks.workload import RANKS, Run, finish, start

_MIB = 2**20


class MeasuredSteps(NamedTuple):
    """What a run took."""

    steps: Steps
    memory: float
    """MiB: the peak resident sets of its ranks, which are its largest processes."""


def measure(run: Run, steps: int, work: Path) -> MeasuredSteps:
    """Run to the end. The first sixth of the steps is not measured: caches and allocators warm up."""
    process, _ = start(run, work, probe=True)
    memory = MemoryWatch(process.pid)
    finish(run, process)
    peaks = sum(memory.stop().processes[:RANKS]) / _MIB
    return MeasuredSteps(Steps.read(run.output.with_name(f"{run.output.name}-probe"), max(1, steps // 6)), peaks)


def require_same(measured: Mapping[str, MeasuredSteps]) -> None:
    """End the benchmark where the sides did not train the same: their times say nothing then."""
    try:
        require_same_training({side: each.steps for side, each in measured.items()})
    except DifferentTrainingError as error:
        sys.exit(f"the sides do not train the same: {error}")


def compare(side: str, rounds: Sequence[Mapping[str, MeasuredSteps]], of: str = "step") -> list[Comparison]:
    """Ours against one of the sides."""
    mine, theirs = [each["ours"] for each in rounds], [each[side] for each in rounds]
    name = f"of a {of}, against {side}"
    return [
        Comparison(f"CPU {name}", "s", [each.steps.cpu for each in mine], [each.steps.cpu for each in theirs]),
        Comparison(f"wall {name}", "s", [each.steps.wall for each in mine], [each.steps.wall for each in theirs]),
        Comparison(f"peak memory {name}", "MiB", [each.memory for each in mine], [each.memory for each in theirs]),
    ]
