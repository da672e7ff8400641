"""Shards are written in order, and an error of a writer reaches who waits for it."""

from __future__ import annotations

import threading

import pytest

from zerotune_trainer.inference.committing import Committer


def test_shards_are_written_one_after_another() -> None:
    committer, written = Committer(), []
    for shard in range(20):
        committer.submit(lambda shard=shard: written.append(shard))  # type: ignore[misc]
    committer.wait()
    assert written == list(range(20))


def test_who_submits_goes_on_while_a_shard_is_written() -> None:
    committer, goes_on = Committer(), threading.Event()
    committer.submit(lambda: None if goes_on.wait(30) else pytest.fail("nobody went on"))
    goes_on.set()
    committer.wait()


def test_an_error_is_raised_once_before_the_next_shard() -> None:
    committer, written = Committer(), []

    def fail() -> None:
        raise OSError("full")

    committer.submit(fail)
    with pytest.raises(OSError, match="full"):
        committer.submit(lambda: written.append(1))
    committer.wait()
    assert written == []
