"""Seconds of a training step, wall and CPU, two ranks on this machine, against the floor and against Trainers.

    ours        zerotune-launch FOLDER
    bare loop   DeepSpeed's engine and nothing else: the floor
    Trainer     transformers' Trainer
    SFTTrainer  TRL's

All have the same deepspeed.json, model, rows and order. A probe around the engine's `backward` and `step` takes the
times, the same for all. Nothing is printed unless all sides made the same steps: losses within 1e-3, gradients that are
not zero. CPU seconds are those of all ranks: they bear a machine that others use, too. Memory: the peak resident set of
the ranks, the largest processes of each side.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp

from zerotune_devtools.benchmarks.measured_steps import MeasuredSteps, compare, measure, require_same
from zerotune_devtools.benchmarks.pairs import parser, report
from zerotune_devtools.benchmarks.step_workload import SIDES, baseline, ours, prepare
from zerotune_devtools.benchmarks.workload import prepare_work


def main() -> None:
    """Run the rounds and print the figures."""
    options = parser(__doc__, pairs=3, steps=16).parse_args()
    work = prepare_work(options.work)
    runs = Path(mkdtemp(prefix="train-", dir=work))
    (runs / "model").symlink_to(work / "model")
    prepare(runs, options.steps)
    rounds = [measure_round(runs, options.steps, number, work) for number in range(options.pairs)]
    shutil.rmtree(runs)
    report([comparison for side in SIDES for comparison in compare(side, rounds)], options.json)


def measure_round(runs: Path, steps: int, number: int, work: Path) -> dict[str, MeasuredSteps]:
    """Every side once."""
    measured: dict[str, MeasuredSteps] = {}
    for side in (*SIDES, "ours"):
        run = ours(runs, steps, number) if side == "ours" else baseline(runs, steps, number, SIDES[side])
        measured[side] = measure(run, steps, work)
    require_same(measured)
    return measured


if __name__ == "__main__":
    main()
