"""An InferenceJob that is killed again and again, on two, one and three replicas in rotation, and what it loses."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from zerotune_devtools.harness.inference_ranks import Ranks, start_ranks, write_folder
from zerotune_devtools.harness.write_faults import DEATH, run_dying_rank
from zerotune_trainer import storage
from zerotune_trainer.manifest import MANIFEST_NAME

REPLICAS = (2, 1, 3)
_WRITES = 40
"""A rank that dies while it writes does so at one of its first so many writes."""
_SECONDS = 600
"""How long an attempt may take to get on, on a busy machine."""


class Difference(NamedTuple):
    """How an output differs from that of an undisturbed run."""

    lost: int
    """Records."""
    doubled: int
    """Records."""
    differing: int
    """Records."""
    files: int
    """Files that are not there, too many, or not the same byte for byte."""

    @classmethod
    def between(cls, found: dict[str, bytes], expected: dict[str, bytes]) -> Difference:
        """Of outputs, by the names of their files."""
        (mine, counts), (theirs, _) = map(_records, (found, expected))
        return cls(
            lost=len(theirs.keys() - mine.keys()),
            doubled=sum(count - 1 for count in counts.values()),
            differing=sum(mine[record] != theirs.get(record) for record in mine),
            files=sum(found.get(name) != expected.get(name) for name in found.keys() | expected.keys()),
        )


@dataclass
class KilledJob:
    """A job of ranks on this machine. `launching.forkserver.start_imports` comes before it."""

    work: Path
    """What it reads and writes is below it, but for an output on S3."""
    model: Path
    parts: dict[str, Any]
    """Of its configuration."""
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    """By what was killed."""
    _attempt: int = 0

    def run(self, ranks: int) -> dict[str, bytes]:
        """Run it to its end; returns its output files.

        Raises:
            RuntimeError: it fails.
        """
        outcome = start_ranks(self._folder(ranks)).end(_SECONDS)
        if outcome.exit_codes != [0] * ranks:
            raise RuntimeError(f"attempt {self._attempt} ended with {outcome.exit_codes}: {outcome.failure}")
        return self.content()

    def content(self) -> dict[str, bytes]:
        """The output files so far, by name."""
        output = self._output()
        names = [name for name in output.children() if name.startswith("part-")]
        return {name: found.content for name in names if (found := output.read(name))}

    def remove_output(self) -> None:
        """As if it had never run."""
        output = self._output()
        for name in output.children():
            output.remove(name)

    def kill(self, what: str) -> bool:
        """Start an attempt, and kill something of it once it has written a few more files.

        Args:
            what: `rank`, `replicas` (all at once, as with a node that is lost), `launcher`, or `writer`: a rank in the
                middle of a write.

        Returns:
            Whether the job is still to be finished.
        """
        folder = self._folder(REPLICAS[self._attempt % len(REPLICAS)])
        wanted = len(self._names()) + self.chance.randint(1, 3)
        _KILLERS[what](self, folder, lambda: len(self._names()) >= wanted)
        self.kills[what] += 1
        return self._output().read(MANIFEST_NAME) is None

    def pause(self) -> None:
        """So that a kill comes at any moment of what goes on."""
        time.sleep(self.chance.random() / 8)

    def _folder(self, ranks: int) -> Path:
        self._attempt += 1
        identity = {"kind": "InferenceJob", "name": "answers", "uid": "killed", "attempt": self._attempt}
        return write_folder(self.work, self.model, ranks=ranks, **(self.parts | {"job": identity}))

    def _output(self) -> storage.Folder:
        uri = self.parts.get("output", {}).get("uri") or (self.work / "output").as_uri()
        return storage.open_folder(uri, self.work / "seen")

    def _names(self) -> list[str]:
        return [name for name in self._output().children() if name.startswith("part-")]


def _kill_rank(job: KilledJob, folder: Path, is_reached: Callable[[], bool]) -> None:
    ranks = start_ranks(folder)
    ranks.wait_until(is_reached, _SECONDS)
    job.pause()
    job.chance.choice(ranks.processes).kill()
    job.pause()
    ranks.kill()


def _kill_replicas(job: KilledJob, folder: Path, is_reached: Callable[[], bool]) -> None:
    ranks = start_ranks(folder)
    ranks.wait_until(is_reached, _SECONDS)
    job.pause()
    ranks.kill()


def _kill_writer(job: KilledJob, folder: Path, is_reached: Callable[[], bool]) -> None:  # noqa: ARG001 its writes count
    ranks = int((folder / "hostfile").read_text().split("slots=")[1])
    death = {"rank": job.chance.randrange(ranks), "number": job.chance.randrange(_WRITES), "below": str(job.work)}
    (folder / DEATH).write_text(json.dumps(death))
    started: Ranks = start_ranks(folder, run_dying_rank)
    started.wait_until(lambda: any(process.exitcode is not None for process in started.processes), _SECONDS)
    job.pause()
    started.kill()


def _kill_launcher(job: KilledJob, folder: Path, is_reached: Callable[[], bool]) -> None:
    """Its ranks end by themselves, as nobody else would end them."""
    command = [str(Path(sys.executable).parent / "zerotune-launch"), str(folder), "--host", "127.0.0.1"]
    with (job.work / "launcher.log").open("ab") as log:
        launcher = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.monotonic() + _SECONDS
    while not is_reached() and launcher.poll() is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no file is written: see {log.name}")
        time.sleep(0.01)
    children = psutil.Process(launcher.pid).children(recursive=True) if launcher.poll() is None else []
    job.pause()
    launcher.kill()
    launcher.wait()
    _, alive = psutil.wait_procs(children, timeout=_SECONDS)
    if alive:
        raise TimeoutError(f"{len(alive)} processes have outlived their launcher: {alive}")


_KILLERS = {"rank": _kill_rank, "replicas": _kill_replicas, "writer": _kill_writer, "launcher": _kill_launcher}
KINDS = tuple(_KILLERS)
"""What may be killed."""


def _records(files: dict[str, bytes]) -> tuple[dict[str, bytes], Counter[str]]:
    """The line of each record, and how often it is there, by what the record was before it had an answer."""
    lines: dict[str, bytes] = {}
    counts: Counter[str] = Counter()
    for line in b"".join(files[name] for name in sorted(files)).splitlines():
        values = json.loads(line)
        key = json.dumps({name: value for name, value in values.items() if name != "generation"})
        lines[key] = line
        counts[key] += 1
    return lines, counts
