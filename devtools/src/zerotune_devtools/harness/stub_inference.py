"""An InferenceJob without a model: all of the real path but the process group and what generates."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast
from unittest.mock import patch

from torch.distributed import HashStore  # type: ignore[attr-defined]

from zerotune_trainer.config import InferConfig, load_config
from zerotune_trainer.context import RankContext
from zerotune_trainer.errors import ZerotuneError
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.infer import generate_and_write
from zerotune_trainer.inference.engine import BatchFigures, Completion, ModelReplica, OnToken, Request
from zerotune_trainer.progress import Completion as JobCompletion
from zerotune_trainer.progress import Reporter


class StubEngine:
    """An engine without a model: what it generates for a prompt are `tag` and the prompt's own tokens, backwards."""

    context_length = None
    batch_size: ClassVar[int] = 2
    seconds_per_batch: ClassVar[float] = 0.0
    tag: ClassVar[list[int]] = []
    batches: ClassVar[MutableSequence[list[int]]] = []
    """The records of every batch that was begun."""

    @classmethod
    def ranks_per_model_replica(cls, config: InferConfig, world_size: int) -> int:  # noqa: ARG003
        """See Engine."""
        return 1

    @classmethod
    def load(cls, config: InferConfig, replica: ModelReplica) -> Self:  # noqa: ARG003
        """See Engine."""
        return cls()

    def run(self, requests: Sequence[Request], on_token: OnToken) -> Iterator[Completion]:
        """See Engine."""
        for start in range(0, len(requests), self.batch_size):
            batch = requests[start : start + self.batch_size]
            self.batches.append([request.record for request in batch])
            time.sleep(self.seconds_per_batch)
            on_token()
            figures = BatchFigures(records=len(batch), prompt_tokens=1, new_tokens=1, seconds=1.0)
            for request in batch:
                yield Completion(
                    request.record, [self.tag + request.ids[::-1]], figures if request is batch[-1] else None
                )

    def close(self) -> None:
        """See Engine."""


class Alone:
    """The group of a job's only rank."""

    def on_first_rank(self, action: Callable[[], Any], kind: Any) -> Any:  # noqa: ARG002
        """See Collectives."""
        return action()

    def gather(self, value: Any, kind: Any) -> list[Any]:  # noqa: ARG002
        """See Collectives."""
        return [value]


class Reports:
    """A Reporter that keeps the completions reported to it."""

    def __init__(self) -> None:
        self.completions: list[JobCompletion] = []

    def completion(self, completion: JobCompletion) -> None:
        """See Reporter."""
        self.completions.append(completion)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class _ReachedResultsError(Exception):
    """In place of writing the results."""


@dataclasses.dataclass
class StubJob:
    """A job of one rank with the stub engine: all of the real path but the process group and the model."""

    folder: Path
    store: HashStore = dataclasses.field(default_factory=HashStore)
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)

    reports: Reports = dataclasses.field(default_factory=Reports)
    replicas: int = 1
    """Each of one rank."""

    def run(self, attempt: int = 0, replica: int = 0) -> JobCompletion:
        """Run it, or one of its replicas, to its end in this process: what it says of its result."""
        config = cast(InferConfig, load_config(self.folder))
        config = config.model_copy(update={"job": config.job.model_copy(update={"attempt": attempt})})
        hostfile = Hostfile.parse("a slots=1\n")
        reports = cast(Reporter, self.reports)
        context = RankContext(
            self.folder, hostfile, hostfile.master, 0, reports, self.stop, replica=replica, replicas=self.replicas
        )
        generate_and_write(config, context, self.store, Alone())
        return self.reports.completions.pop()

    def run_until_results(self) -> None:
        """Run it as far as to the results, which are not written any more."""
        with patch("zerotune_trainer.infer.write_results", side_effect=_ReachedResultsError):
            try:
                self.run()
            except _ReachedResultsError:
                return
        raise AssertionError("the job ended without results")

    def start(
        self, attempt: int = 0, before: Callable[[], None] = lambda: None, replica: int = 0
    ) -> multiprocessing.Process:
        """Run it in a process of its own, which exits as a rank does. `before` is called there first."""

        def rank() -> None:
            before()
            try:
                self.run(attempt, replica)
            except ZerotuneError as error:
                print(f"replica {replica}: {error.message}", file=sys.stderr, flush=True)
                os._exit(error.exit_code)
            except OSError:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(75)
            os._exit(0)

        process = multiprocessing.get_context("fork").Process(target=rank)
        process.start()
        return cast(multiprocessing.Process, process)
