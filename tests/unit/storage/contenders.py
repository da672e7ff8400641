"""Processes that want one folder, all at once."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable

from zerotune_trainer.config import JobIdentity
from zerotune_trainer.errors import ConfigurationError, SupersededError, TemporaryError

FORK = multiprocessing.get_context("fork")

CONTENDERS = 4


def identity(uid: str = "one", attempt: int = 0) -> JobIdentity:
    return JobIdentity(kind="FineTuneJob", name=f"job-{uid}", uid=uid, attempt=attempt)


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except (ConfigurationError, SupersededError, TemporaryError) as error:
        return f"{type(error).__name__}: {error.message}"
    return "done"


def all_at_once(acts: list[Callable[[int], object]], rounds: int) -> list[list[str]]:
    """What comes of each act in each round; every act has a process of its own, and all begin a round together."""
    start, results = FORK.Barrier(len(acts)), FORK.SimpleQueue()

    def contend(number: int) -> None:
        for trial in range(rounds):
            start.wait()
            results.put((trial, number, outcome(lambda trial=trial: acts[number](trial))))

    processes = [FORK.Process(target=contend, args=(number,)) for number in range(len(acts))]
    for process in processes:
        process.start()
    came = sorted(results.get() for _ in range(rounds * len(acts)))
    for process in processes:
        process.join()
    return [[text for trial, _, text in came if trial == wanted] for wanted in range(rounds)]


def assert_one_wins(rounds: list[list[str]]) -> None:
    for texts in rounds:
        assert texts.count("done") == 1, texts
        winner = texts.index("done")
        losers = [text for text in texts if text != "done"]
        assert all(f"belongs to FineTuneJob job-{winner} ({winner})" in text for text in losers), texts
        assert all(text.startswith("ConfigurationError") for text in losers), texts


def in_a_process(act: Callable[[], object]) -> int | None:
    def run() -> None:
        sys.exit(outcome(act) != "done")

    process = FORK.Process(target=run)
    process.start()
    process.join()
    return process.exitcode
