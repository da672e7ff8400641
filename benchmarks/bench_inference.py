"""Tokens a second of each engine on two ranks of this machine, against plain `model.generate`, by wall clock and CPU.

    ours   zerotune-launch FOLDER
    plain  two processes with transformers alone: padded batches of as many records, in the order of the file

The records' prompts and answers are of mixed length. Times are from the first batch to the last one, taken by a probe
around `generate`, the same for all. Nothing is printed unless all sides gave the same greedy answers, all of them but
for ties of two tokens, which are counted.
`--scaling` compares the step from one replica to two with what two jobs beside each other come to, each with half of
the records, which is all that the machine can give.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp

from zerotune_devtools.benchmarks.generation_workload import PORT, GenerationWorkload
from zerotune_devtools.benchmarks.generations import DifferentAnswersError, Generations, measure, require_same_answers
from zerotune_devtools.benchmarks.lines import print_line
from zerotune_devtools.benchmarks.pairs import Comparison, report

ENGINES = ["transformers", "deepspeed", "zero"]


def main() -> None:
    """Run all sides and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1000, help="prompts (default: %(default)s)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES, help="which (default: all)")
    parser.add_argument("--scaling", action="store_true", help="also from one replica to two")
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="folder (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if options.scaling and "transformers" not in options.engines:
        parser.error("--scaling is about engine transformers: name it with --engines")
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    runs = Path(mkdtemp(prefix="inference-", dir=work))
    workload = GenerationWorkload(runs, options.records)
    workload.prepare()
    sides = {"plain": measure([workload.baseline()], work)[0]}
    sides |= {engine: measure([workload.ours(engine)], work)[0] for engine in options.engines}
    try:
        differing = require_same_answers(sides)
    except DifferentAnswersError as error:
        sys.exit(f"the sides do not generate the same: {error}")
    comparisons = [each for engine in options.engines for each in compare(engine, sides)]
    if options.scaling:
        comparisons += scaling(workload, sides["transformers"], work)
    print_line(", ".join(f"{name}: {count} other answers" for name, count in differing.items() if name != "plain"))
    report(comparisons, options.json)
    shutil.rmtree(runs)


def compare(engine: str, sides: dict[str, Generations]) -> list[Comparison]:
    """An engine against plain `generate`."""
    mine, theirs = sides[engine], sides["plain"]
    tokens, records = sum(len(answer.split()) for answer in theirs.answers), len(theirs.answers)
    of_clocks = [("wall", mine.wall, theirs.wall), ("CPU", mine.cpu, theirs.cpu)]
    return [
        *(
            Comparison(f"{name} a second of {clock}, {engine}", name, [count / ours], [count / plain])
            for clock, ours, plain in of_clocks
            for name, count in (("tokens", tokens), ("records", records))
        ),
        Comparison(f"start-up to first token, {engine}", "s", [mine.first_token], [theirs.first_token]),
    ]


def scaling(workload: GenerationWorkload, together: Generations, work: Path) -> list[Comparison]:
    """Two replicas of a job against two jobs, both in records/s over those of one replica."""
    [alone] = measure([workload.ours("transformers", ranks=1)], work)
    halves = [workload.part(number, 2) for number in range(2)]
    jobs = [half.ours("transformers", ranks=1, port=PORT + 10 * number) for number, half in enumerate(halves)]
    apart = max(side.wall for side in measure(jobs, work))
    return [Comparison("from one replica to two", "times as fast", [alone.wall / together.wall], [alone.wall / apart])]


if __name__ == "__main__":
    main()
