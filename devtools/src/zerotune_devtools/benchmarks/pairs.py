"""Pairs of measurements, A B A B, and what they come to."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Comparison:
    """A figure of ours against the baseline's, over pairs run one after the other."""

    figure: str
    unit: str
    ours: list[float]
    baseline: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours / baseline, pair by pair: what the machine does to both cancels out."""
        return [a / b for a, b in zip(self.ours, self.baseline, strict=True)]

    def __str__(self) -> str:
        mine, theirs, ratios = median(self.ours), median(self.baseline), self.ratios
        return (
            f"{self.figure}: ours {mine:.2f} {self.unit}, baseline {theirs:.2f} {self.unit}, "
            f"ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs)"
        )

    def as_json(self) -> dict[str, object]:
        """Everything measured, and the medians."""
        return asdict(self) | {"ratios": self.ratios, "ratio": median(self.ratios)}


def report(comparisons: Sequence[Comparison], path: Path | None) -> None:
    """Print the comparisons, and write them to `path` as JSON where one is given."""
    for comparison in comparisons:
        sys.stdout.write(f"{comparison}\n")
    if path is not None:
        path.write_text(json.dumps([comparison.as_json() for comparison in comparisons], indent=2) + "\n")


def parser(description: str | None, *, pairs: int, steps: int) -> argparse.ArgumentParser:
    """Options that both benchmarks have."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pairs", type=int, default=pairs, help="measured pairs (default: %(default)s)")
    options.add_argument("--steps", type=int, default=steps, help="optimizer steps of a run (default: %(default)s)")
    options.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="folder (default: %(default)s)")
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    return options
