"""Seconds and memory of a step of dpo, orpo and kto, two ranks on this machine, against TRL's own trainers.

    ours  zerotune-launch FOLDER
    TRL   DPOTrainer, ORPOTrainer, KTOTrainer

Both have the same deepspeed.json, model, rows and order; with dpo and kto both compute what the reference says before
training. Model and measuring are those of bench_train.py, and nothing is printed unless the losses agree as there.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp

from zerotune_devtools.benchmarks.measured_steps import MeasuredSteps, compare, measure, require_same
from zerotune_devtools.benchmarks.pairs import Comparison, parser, report
from zerotune_devtools.benchmarks.preference_rows import METHODS, write_rows
from zerotune_devtools.benchmarks.step_workload import StepTraining, baseline, make_model, ours
from zerotune_devtools.benchmarks.workload import prepare_work


def main() -> None:
    """Run the pairs and print the figures."""
    options = parser(__doc__, pairs=3, steps=16)
    options.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="which (default: all)")
    chosen = options.parse_args()
    work = prepare_work(chosen.work)
    runs = Path(mkdtemp(prefix="preference-", dir=work))
    (runs / "model").symlink_to(work / "model")
    make_model(runs)
    write_rows(runs, chosen.steps)
    comparisons: list[Comparison] = []
    for method in chosen.methods:
        pairs = [measure_pair(runs, chosen.steps, number, work, METHODS[method]) for number in range(chosen.pairs)]
        comparisons += compare("TRL", pairs, f"step of {method}")
    shutil.rmtree(runs)
    report(comparisons, chosen.json)


def measure_pair(runs: Path, steps: int, number: int, work: Path, training: StepTraining) -> dict[str, MeasuredSteps]:
    """Both sides once."""
    theirs = measure(baseline(runs, steps, number, "preference_rows.py", training), steps, work)
    measured = {"TRL": theirs, "ours": measure(ours(runs, steps, number, training), steps, work)}
    require_same(measured)
    return measured


if __name__ == "__main__":
    main()
