"""Tokens a second and peak memory of training, two ranks on this machine, cpt and sft.

    ours      zerotune-launch FOLDER
    baseline  torchrun with TRL's SFTTrainer: the same deepspeed.json, data, packing, batch and precision

Both count tokens without padding. The first sixth of the steps is left out of the speed: caches and allocators warm up.
Memory: the peak resident set of the ranks, which are the two largest processes of each side; and the most that all
processes held together, launchers included.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from zerotune_devtools.benchmarks.memory import MemoryWatch, Peaks
from zerotune_devtools.benchmarks.pairs import Comparison, parser, report
from zerotune_devtools.benchmarks.workload import RANKS, Run, Workload, baseline, finish, ours, prepare_work, start

MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """One run."""

    tokens_per_second: float
    peaks: Peaks

    @property
    def ranks_mib(self) -> float:
        """Peak memory of the ranks, summed."""
        return sum(self.peaks.processes[:RANKS]) / MIB

    @property
    def largest_mib(self) -> float:
        """Peak memory of the larger rank."""
        return self.peaks.processes[0] / MIB

    @property
    def all_mib(self) -> float:
        """Peak memory of all processes together."""
        return self.peaks.together / MIB


def main() -> None:
    """Run the pairs of both methods and print the figures."""
    options = parser(__doc__, pairs=5, steps=120).parse_args()
    work = prepare_work(options.work)
    runs = Path(mkdtemp(prefix="train-", dir=work))
    for name in ("data", "model"):
        (runs / name).symlink_to(work / name)
    logging_steps = max(1, options.steps // 24)
    comparisons: list[Comparison] = []
    for method in ("cpt", "sft"):
        workload = Workload(method, options.steps, logging_steps, runs)
        pairs = [measure_pair(workload, number, work) for number in range(options.pairs)]
        comparisons += compare(method, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
    shutil.rmtree(runs)
    report(comparisons, options.json)


def measure_pair(workload: Workload, number: int, work: Path) -> tuple[Measured, Measured]:
    """Ours, then the baseline."""
    run = ours(workload, number)
    peaks = watch(run, work)
    mine = Measured(speed(our_records(run.output), workload), peaks)
    run = baseline(workload, "sft_trainer.py", number)
    peaks = watch(run, work)
    return mine, Measured(speed(read_lines(run.output / "tokens.jsonl"), workload), peaks)


def watch(run: Run, work: Path) -> Peaks:
    """Run to the end; its peak memory."""
    process, _ = start(run, work)
    memory = MemoryWatch(process.pid)
    finish(run, process)
    return memory.stop()


def our_records(output: Path) -> list[dict[str, Any]]:
    """`metrics.jsonl` as steps, tokens done and seconds."""
    records: list[dict[str, Any]] = []
    tokens = seconds = 0.0
    for line in read_lines(output / "metrics.jsonl"):
        tokens += line["tokensPerSecond"] * (line["elapsedSeconds"] - seconds)
        seconds = line["elapsedSeconds"]
        records.append({"step": line["step"], "tokens": tokens, "seconds": seconds})
    return records


def speed(records: list[dict[str, Any]], workload: Workload) -> float:
    """Tokens a second from the first record after the warm-up to the last."""
    first = next(record for record in records if record["step"] >= workload.steps / 6)
    last = records[-1]
    return float((last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"]))


def compare(method: str, mine: list[Measured], theirs: list[Measured]) -> list[Comparison]:
    """The figures of one method."""
    figures = {
        ("tokens per second", "tokens/s"): "tokens_per_second",
        ("peak memory, ranks", "MiB"): "ranks_mib",
        ("peak memory, largest rank", "MiB"): "largest_mib",
        ("peak memory, all processes", "MiB"): "all_mib",
    }
    return [
        Comparison(f"{method} {name}", unit, *([getattr(run, field) for run in side] for side in (mine, theirs)))
        for (name, unit), field in figures.items()
    ]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A file of JSON objects, one a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
