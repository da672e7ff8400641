"""An InferenceJob over very many records, with the stub engine: what is measured is all but what generates.

    python -m zerotune_devtools.benchmarks.many_records FOLDER UNTIL

runs such a job in this process until so many records are done, and prints `Measured` as JSON.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

from zerotune_devtools.benchmarks.memory import peak_resident
from zerotune_devtools.benchmarks.words import write_model

BATCH = 32


@dataclass
class Measured:
    """What a run took."""

    seconds: float = 0.0
    """From the start, everything imported, to the end."""
    committing: float = 0.0
    """Seconds of those in which the job waited until files were written, marked as whole, or verified."""
    first_record: float = 0.0
    """Seconds from the start to the first record that was generated."""
    peak_at_tenth: int = 0
    """Peak resident set when a tenth of all records was done, in bytes; 0 where not so many were done."""
    peak: int = 0
    """The same at the end."""


def prepare(work: Path, records: int) -> Path:
    """Write a model, records and the job over them; returns the job's folder."""
    from zerotune_devtools.harness.inference_ranks import write_folder

    model, texts = work / "model", work / "input.jsonl"
    write_model(model)
    with texts.open("w") as file:
        file.writelines(f'{{"id": {number}, "prompt": "w{3 + number % 300} w17"}}\n' for number in range(records))
    return write_folder(work, model, ranks=1, data={"uris": [texts.as_uri()]}, perDeviceBatchSize=BATCH)


def run(folder: Path, until: int) -> Measured:
    """Run the job until so many of its records are done, or to its end; what it took."""
    from zerotune_devtools.harness.stub_inference import StubEngine, StubJob
    from zerotune_trainer import engines
    from zerotune_trainer.errors import StoppedError
    from zerotune_trainer.inference.engine import Completion, OnToken, Request

    measured, began, count = Measured(), time.monotonic(), itertools.count(1)
    job = StubJob(folder)

    class WatchedEngine(StubEngine):
        batch_size = BATCH
        batches: ClassVar[MutableSequence[list[int]]] = deque(maxlen=0)  # Not the engine's memory is measured.

        def run(self, requests: Sequence[Request], on_token: OnToken) -> Iterator[Completion]:
            for completion in super().run(requests, on_token):
                measured.first_record = measured.first_record or time.monotonic() - began
                number = next(count)
                if number == until // 10:
                    measured.peak_at_tenth = peak_resident(os.getpid())
                if number == until:
                    job.stop.set()
                yield completion

    stub = patch.dict(engines.ENGINES, {"transformers": WatchedEngine})
    with stub, _timed(measured), contextlib.suppress(StoppedError):
        job.run()
    measured.seconds, measured.peak = time.monotonic() - began, peak_resident(os.getpid())
    return measured


@contextlib.contextmanager
def _timed(measured: Measured) -> Iterator[None]:
    """Counts the time in which the thread that generates waits for files of the output."""
    from zerotune_trainer import infer
    from zerotune_trainer.inference import output, rounds, verification
    from zerotune_trainer.inference.committing import Committer

    def timed(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return function(*arguments)
            began = time.monotonic()
            try:
                return function(*arguments)
            finally:
                measured.committing += time.monotonic() - began

        return call

    with (
        patch.object(output, "write", timed(output.write)),
        patch.object(Committer, "wait", timed(Committer.wait)),
        patch.object(infer, "verify", timed(verification.verify)),
        patch.object(rounds, "verify_written", timed(verification.verify_written)),
    ):
        yield


if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(asdict(run(Path(sys.argv[1]), int(sys.argv[2]))))}\n")
