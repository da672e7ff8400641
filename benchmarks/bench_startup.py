"""Seconds from starting the command to the end of the first optimizer step, two ranks on this machine.

    ours      zerotune-launch FOLDER
    baseline  torchrun with transformers' Trainer and DeepSpeed, whose operations are compiled already

Both tokenize from their caches: a pair before the first measured one fills those. The end of the step is when the
training process itself writes its record of it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp

from zerotune_devtools.benchmarks.pairs import Comparison, parser, report
from zerotune_devtools.benchmarks.workload import Run, Workload, baseline, finish, ours, prepare_work, start


def main() -> None:
    """Run the pairs and print the figures."""
    options = parser(__doc__, pairs=7, steps=1).parse_args()
    work = prepare_work(options.work)
    runs = Path(mkdtemp(prefix="startup-", dir=work))
    for name in ("data", "model"):
        (runs / name).symlink_to(work / name)
    workload = Workload("cpt", options.steps, 1, runs)
    measured = [measure_pair(workload, number, work) for number in range(options.pairs + 1)][1:]
    shutil.rmtree(runs)
    theirs = [pair[1] for pair in measured]
    report([Comparison("start-up", "s", [pair[0] for pair in measured], theirs)], options.json)


def measure_pair(workload: Workload, number: int, work: Path) -> tuple[float, float]:
    """Seconds to the first step: ours, and the baseline's."""
    mine = seconds_to_first_step(ours(workload, number), "metrics.jsonl", work)
    return mine, seconds_to_first_step(baseline(workload, "trainer_deepspeed.py", number), "first-step", work)


def seconds_to_first_step(run: Run, record: str, work: Path) -> float:
    """Run to the end; the file `record` was last written to at the end of the first step."""
    process, began = start(run, work)
    finish(run, process)
    return (run.output / record).stat().st_mtime - began


if __name__ == "__main__":
    main()
