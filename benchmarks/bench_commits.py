"""Very many records through a stub engine: what an InferenceJob takes besides generating.

The job is stopped when 99 in 100 records are done, and resumed in another process. Peak memory is that of the resident
set when a tenth is done and at the end. Committing is the time in which the thread that generates waits until output
files and markers are on the disk, or verified. A resume is timed from its start, everything imported, until the first
new record is there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from zerotune_devtools.benchmarks.lines import print_line
from zerotune_devtools.benchmarks.many_records import Measured, prepare
from zerotune_devtools.benchmarks.workload import environment
from zerotune_trainer.sizing.workload import gib


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000_000, help="how many (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build"), help="folder (default: %(default)s)")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="commits-", dir=options.work.absolute()) as name:
        folder = prepare(Path(name), options.records)
        first = run(folder, options.records * 99 // 100)
        second = run(folder, options.records)
        rows = sum(path.read_bytes().count(b"\n") for path in Path(name, "output").glob("part-*"))
    if rows != options.records:
        sys.exit(f"the output has {rows} of {options.records} records")
    seconds, committing = first.seconds + second.seconds, first.committing + second.committing
    peak = max(first.peak, second.peak)
    print_line(f"{options.records} records in {seconds:.0f} s, {options.records / seconds:.0f} records/s")
    print_line(
        f"peak memory {gib(first.peak_at_tenth)} at a tenth, {gib(peak)} at the end: "
        f"{100 * (peak / first.peak_at_tenth - 1):+.1f}% (aim: 5)"
    )
    print_line(f"committing {committing:.1f} s: {100 * committing / seconds:.2f}% of the time (aim: 1)")
    print_line(f"resume: {second.first_record:.2f} s to the first new record (aim: 2)")


def run(folder: Path, until: int) -> Measured:
    """A process of its own."""
    command = [sys.executable, "-m", "zerotune_devtools.benchmarks.many_records", str(folder), str(until)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment(folder.parent))
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
