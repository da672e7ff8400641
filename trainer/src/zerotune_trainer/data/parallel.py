"""Run a function over chunks of records in many processes; the results come in order, whatever the number."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from pathlib import Path
from typing import Any

from zerotune_trainer.data.readers import Record
from zerotune_trainer.data.tokens import Rows
from zerotune_trainer.errors import OutOfMemoryError

Tokenize = Callable[[list[Record]], Rows]

_CHUNK_RECORDS = 256
_CHUNK_CHARACTERS = 1 << 20
_AHEAD = 2
"""Chunks a process has waiting: enough that it never idles, few enough that reading does not run away with memory."""

_tokenize: Tokenize | None = None
"""What a process of the pool runs; it gets it by being forked, so that nothing of it need be pickled."""


def tokenize_in_parallel(tokenize: Tokenize, records: Iterable[Record], processes: int) -> Iterator[Rows]:
    """The rows of records, chunk after chunk in order. Few records are tokenized in this process.

    Raises:
        DataError, InputMissingError, ConfigurationError: of the first chunk that raised.
        OutOfMemoryError: a process was killed.
    """
    chunks = chunked(records)
    head = list(islice(chunks, 2))
    if len(head) < 2 or processes == 1:
        yield from map(tokenize, chain(head, chunks))
    else:
        yield from _pooled(tokenize, chain(head, chunks), processes)


def chunked(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Runs of records that are worth sending to another process. Where they end depends on the records alone."""
    chunk: list[Record] = []
    characters = 0
    for record in records:
        chunk.append(record)
        characters += sum(len(value) for value in record.values.values() if isinstance(value, str | list))
        if len(chunk) == _CHUNK_RECORDS or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def available_processes() -> int:
    """CPUs this process may use: those of its affinity, no more than its cgroup's quota allows."""
    cpus = len(os.sched_getaffinity(0))
    quota_file = Path("/sys/fs/cgroup/cpu.max")
    quota, _, period = quota_file.read_text().partition(" ") if quota_file.is_file() else ("max", "", "")
    return cpus if quota == "max" else max(1, min(cpus, round(int(quota) / int(period))))


def _pooled(tokenize: Tokenize, chunks: Iterable[list[Record]], processes: int) -> Iterator[Rows]:
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), _start, (tokenize,))
    waiting: deque[Future[Rows]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_run, chunk))
            if len(waiting) == processes * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        hint = (
            "most often the kernel ran out of memory: give the node more, or the job fewer CPUs; see too that no "
            "function of `plugin` ends its process"
        )
        raise OutOfMemoryError("a process that tokenizes was killed", hint) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start(tokenize: Tokenize) -> None:
    global _tokenize
    _tokenize = tokenize
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # The parent's lock on the cache is inherited with its files: it must not outlive the parent.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os._exit(1)


def _run(chunk: list[Record]) -> Rows:
    assert _tokenize is not None
    return _tokenize(chunk)
