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
import sys
from pathlib import Path
from tempfile import mkdtemp

from zerotune_devtools.benchmarks.memory import MemoryWatch
from zerotune_devtools.benchmarks.pairs import Comparison, parser, report
from zerotune_devtools.benchmarks.step_workload import SIDES, baseline, ours, prepare
from zerotune_devtools.benchmarks.steps import DifferentTrainingError, Steps, require_same_training
from zerotune_devtools.benchmarks.workload import RANKS, Run, finish, prepare_work, start

MIB = 2**20


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


def measure_round(runs: Path, steps: int, number: int, work: Path) -> dict[str, tuple[Steps, float]]:
    """Every side once: its steps and the peak memory of its ranks in MiB."""
    measured: dict[str, tuple[Steps, float]] = {}
    for side in (*SIDES, "ours"):
        run = ours(runs, steps, number) if side == "ours" else baseline(runs, steps, number, side)
        probe, memory = run.output.with_name(f"{run.output.name}-probe"), watch(run, work)
        measured[side] = Steps.read(probe, warm_up=max(1, steps // 6)), memory
    try:
        require_same_training({side: figures for side, (figures, _) in measured.items()})
    except DifferentTrainingError as error:
        sys.exit(f"the sides do not train the same: {error}")
    return measured


def watch(run: Run, work: Path) -> float:
    """Run to the end; the peak memory of its ranks."""
    process, _ = start(run, work, probe=True)
    memory = MemoryWatch(process.pid)
    finish(run, process)
    return sum(memory.stop().processes[:RANKS]) / MIB


def compare(side: str, rounds: list[dict[str, tuple[Steps, float]]]) -> list[Comparison]:
    """Ours against one of the sides."""
    pairs = [(measured["ours"], measured[side]) for measured in rounds]

    def figure(name: str, unit: str, mine: list[float], theirs: list[float]) -> Comparison:
        return Comparison(f"{name}, against {side}", unit, mine, theirs)

    return [
        figure("CPU of a step", "s", [mine[0].cpu for mine, _ in pairs], [theirs[0].cpu for _, theirs in pairs]),
        figure("wall of a step", "s", [mine[0].wall for mine, _ in pairs], [theirs[0].wall for _, theirs in pairs]),
        figure("peak memory, ranks", "MiB", [mine[1] for mine, _ in pairs], [theirs[1] for _, theirs in pairs]),
    ]


if __name__ == "__main__":
    main()
