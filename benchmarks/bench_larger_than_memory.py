"""A model of twice the memory there is: an InferenceJob with `engine: zero` and `zero.offloadParam: nvme`, in a cgroup
without swap (takes root), beside accelerate's offloading to disk in the same cgroup.

A token of every sequence takes all weights from the disk once, so that

    tokens/s <= batch x read bandwidth / bytes of the weights

The bandwidth is measured in the same cgroup, before and after, through DeepSpeed's own handle past the page cache.
accelerate keeps a third of the limit in memory, and reads the rest; it gets a pass to warm up, as our job does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from zerotune_devtools.benchmarks.larger_than_memory import PROMPT, LargeModel
from zerotune_devtools.benchmarks.lines import print_line
from zerotune_devtools.benchmarks.memory_cgroup import MemoryCgroup, Usage, memory_cgroup
from zerotune_devtools.checkout import ROOT
from zerotune_devtools.compiled import libaio
from zerotune_trainer.sizing.workload import GIB, gib

BIN = Path(sys.executable).parent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=1.5, help="GiB of memory there are (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="sequences at once (default: %(default)s)")
    parser.add_argument("--new-tokens", type=int, default=8, help="tokens of each (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build/larger-than-memory"), help="default: %(default)s")
    options = parser.parse_args()
    limit, work = int(options.limit * GIB), options.work.absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    libaio.compile_async_io()  # In the cgroup it would take all of the memory.
    model = LargeModel(work, 2 * limit, options.batch, options.new_tokens)
    model.make()
    print_line(f"limit {gib(limit)}, weights {gib(model.weights)}, batch {model.batch}, {model.new_tokens} tokens each")
    before = bandwidth(work, limit)
    ours = run_ours(model, limit)
    after = bandwidth(work, limit)
    theirs = run_accelerate(model, limit)
    law = model.batch * (before + after) / 2 / model.weights
    print_line(
        f"read bandwidth {before / 1e6:.0f} MB/s before, {after / 1e6:.0f} MB/s after: at most {law:.2f} tokens/s"
    )
    print_line(f"ours / accelerate {ours / theirs:.2f} (aim: 3), ours / law {ours / law:.2f} (aim: 0.6)")
    shutil.rmtree(work)


def run_ours(model: LargeModel, limit: int) -> float:
    """Tokens/s of the job."""
    plan = model.plan(limit)
    assert plan.generation is not None
    print_line(f"planned: {gib(plan.generation.node_bytes)} of memory, {gib(plan.generation.disk_bytes)} on disk")
    model.forget()
    command = [BIN / "zerotune-launch", model.write_job(plan), "--host", "127.0.0.1"]
    with memory_cgroup("zero", limit) as cgroup:
        usage = cgroup.run(command, model.work / "ours.log", variables())
    results = model.results()
    speed: float = results["newTokens"] / results["generatingSeconds"]
    print_side("zero + nvme", speed, usage)
    if any((model.work / "offloaded").iterdir()):
        sys.exit("the job has left parameters on the disk")
    return speed


def run_accelerate(model: LargeModel, limit: int) -> float:
    """Tokens/s of the baseline, which has to generate the same texts."""
    options = {
        "model": model.folder,
        "offload-folder": model.work / "accelerate",
        "prompt": PROMPT,
        "in-memory": limit // 3,
        "batch": model.batch,
        "new-tokens": model.new_tokens,
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    model.forget()
    with memory_cgroup("accelerate", limit) as cgroup:
        printed, usage = output_of([ROOT / "benchmarks" / "baseline" / "disk_offload.py", *flags], cgroup, model.work)
    figures = json.loads(printed)
    print_side("accelerate", figures["tokensPerSecond"], usage)
    if not all(figures["texts"]) or figures["texts"] != model.texts():
        sys.exit("accelerate generates other texts than the job")
    return float(figures["tokensPerSecond"])


def bandwidth(work: Path, limit: int) -> float:
    """Bytes/s."""
    command = ["-m", "zerotune_devtools.benchmarks.read_bandwidth", work / "bandwidth"]
    with memory_cgroup("bandwidth", limit) as cgroup:
        return float(output_of(command, cgroup, work)[0])


def output_of(arguments: list[str | Path], cgroup: MemoryCgroup, work: Path) -> tuple[str, Usage]:
    """The last line that Python prints in a cgroup, and what it took."""
    log = work / "output.log"
    usage = cgroup.run([sys.executable, *arguments], log, variables())
    return log.read_text().splitlines()[-1], usage


def variables() -> dict[str, str]:
    """Of all sides alike."""
    return os.environ | libaio.compiler_variables() | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}


def print_side(name: str, speed: float, usage: Usage) -> None:
    """What one side did."""
    memory = f"peak {gib(usage.peak)} with page cache, {gib(usage.anonymous)} of it backed by no file"
    print_line(f"{name}: {speed:.2f} tokens/s, {memory}")


if __name__ == "__main__":
    main()
