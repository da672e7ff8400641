"""Kills InferenceJobs at random and compares what they have written with an undisturbed run, byte for byte.

A kill takes a rank, all replicas of a node at once, a rank in the middle of a write, or a launcher. The attempts run on
two replicas, one and three in rotation; answers are greedy and sampled; outputs lie in a folder and on an S3 server
of this machine. A job that was killed so often that little is left of it runs to its end and is compared; then the next
one begins. `--seed` gives the same kills again, as far as they hit the same moment.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zerotune_devtools.benchmarks.lines import print_line
from zerotune_devtools.benchmarks.words import write_model
from zerotune_devtools.harness.killed_inference import KINDS, Difference, KilledJob
from zerotune_devtools.harness.s3 import bucket_of, s3_server
from zerotune_trainer.config import Launch
from zerotune_trainer.launching.forkserver import start_imports

RECORDS, ROWS_PER_FILE = 120, 3
FILES = RECORDS // ROWS_PER_FILE
GENERATIONS: dict[str, dict[str, Any]] = {
    "greedy": {"maxNewTokens": 30},
    "sampled": {"maxNewTokens": 30, "doSample": True, "temperature": 1.5, "seed": 7},
}


def main() -> None:
    """Kill, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed when (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="what is killed (default: all)")
    options = parser.parse_args()
    chance = random.Random(options.seed)  # noqa: S311 (nobody's secret)
    with TemporaryDirectory(prefix="killed-") as name, s3_server(Path(name, "moto.log")) as endpoint:
        os.environ |= bucket_of(endpoint, "answers")
        start_imports(["zerotune_trainer.infer"], Launch(cache_dir="/nowhere"))
        kills, differences = run(Path(name), options.kills, options.kinds, chance)
    total = Difference(*map(sum, zip(*differences, strict=True)))
    of_kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(kills.items()))
    print_line(f"{kills.total()} kills ({of_kinds}) of {len(differences)} jobs with {RECORDS} records each")
    print_line(f"lost {total.lost}, doubled {total.doubled}, differing {total.differing}; files {total.files}")
    sys.exit(any(total))


def run(work: Path, kills: int, kinds: list[str], chance: random.Random) -> tuple[Counter[str], list[Difference]]:
    """The kills by what was killed, and how each job's output differs."""
    model, killed, differences = work / "model", Counter[str](), []
    write_model(model)
    for parts, name in variants(work):
        job = KilledJob(work / name, model, parts, chance)
        job.work.mkdir()
        expected = job.run(1)
        job.remove_output()
        while killed.total() + job.kills.total() < kills and len(job.content()) < FILES - 6:
            if not job.kill(chance.choice(kinds)):
                break
        killed += job.kills
        differences.append(Difference.between(job.run(2), expected))
        print_line(f"{name}: {job.kills.total()} kills, {differences[-1]}")
        shutil.rmtree(job.work)
        if killed.total() >= kills:
            break
    return killed, differences


def variants(work: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The configuration of job after job, and a name of it."""
    records = work / "input.jsonl"
    draw = random.Random(0)  # noqa: S311 (nobody's secret)
    rows = ({"id": n, "prompt": " ".join(f"w{draw.randrange(3, 300)}" for _ in range(8))} for n in range(RECORDS))
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number in itertools.count():
        for (kind, generation), store in itertools.product(GENERATIONS.items(), ("folder", "s3")):
            parts = {
                "data": {"uris": [records.as_uri()]},
                "generation": generation,
                "outputFormat": {"rowsPerFile": ROWS_PER_FILE},
                "perDeviceBatchSize": 2,
            }
            name = f"{kind}-{store}-{number}"
            yield parts | ({"output": {"uri": f"s3://answers/{name}"}} if store == "s3" else {}), name


if __name__ == "__main__":
    main()
