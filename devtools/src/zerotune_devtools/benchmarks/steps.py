"""What the probe noted of a run's steps, and whether runs trained the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

TOLERANCE = 1e-3
"""How far apart losses of the same step may be."""


class DifferentTrainingError(Exception):
    """Two sides did not do the same work, so that their times say nothing."""


@dataclass(frozen=True)
class Steps:
    """The steps of one side, over its ranks."""

    wall: float
    """Median seconds from the end of a step to the end of the next."""
    cpu: float
    """CPU seconds of a step, of all ranks together: the median."""
    losses: list[float]
    """Mean over the ranks, step by step."""
    grad_norms: list[float]

    @classmethod
    def read(cls, folder: Path, warm_up: int) -> Steps:
        """What the probe left in `folder`, the first steps left out of the times: caches and allocators warm up."""
        ranks = [_lines(path) for path in sorted(folder.glob("*.jsonl"))]
        if not ranks:
            raise DifferentTrainingError(f"no rank of {folder.name} came to a step")
        walls = [after["wall"] - before["wall"] for before, after in _pairs(ranks[0][warm_up:])]
        of_ranks = [[after["cpu"] - before["cpu"] for before, after in _pairs(rank[warm_up:])] for rank in ranks]
        return cls(
            wall=median(walls),
            cpu=median(sum(spans) for spans in zip(*of_ranks, strict=True)),
            losses=[sum(line["loss"] for line in lines) / len(ranks) for lines in zip(*ranks, strict=True)],
            grad_norms=[line["grad_norm"] or 0.0 for line in ranks[0]],
        )


def require_same_training(sides: dict[str, Steps]) -> None:
    """See that all sides made the same steps.

    Raises:
        DifferentTrainingError: losses differ, or nothing was learned: a gradient is zero.
    """
    reference = next(iter(sides.values()))
    for name, side in sides.items():
        if len(side.losses) != len(reference.losses):
            raise DifferentTrainingError(f"{name} made {len(side.losses)} steps, not {len(reference.losses)}")
        for step, (loss, expected) in enumerate(zip(side.losses, reference.losses, strict=True), 1):
            if not abs(loss - expected) <= TOLERANCE:
                raise DifferentTrainingError(f"{name} has a loss of {loss:.5f} at step {step}, not {expected:.5f}")
        if not all(norm > 0 for norm in side.grad_norms):
            raise DifferentTrainingError(f"{name} has gradients of norm {min(side.grad_norms)}")


def _lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _pairs(lines: list[dict[str, float]]) -> list[tuple[dict[str, float], dict[str, float]]]:
    return list(pairwise(lines))
