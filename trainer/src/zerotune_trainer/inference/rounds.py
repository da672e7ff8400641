"""Rounds of work until every shard is whole: generate what is missing, wait for all ranks, verify.

One round does it, unless files vanish or change after they were written, or something raises the counter that hands out
the tasks: then the ranks are through too soon. Later rounds deal the shards out by their numbers, without that counter.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from torch.distributed.distributed_c10d import Store

from zerotune_trainer.context import RankContext
from zerotune_trainer.inference.engine import Replica
from zerotune_trainer.inference.markers import WholeShard
from zerotune_trainer.inference.replica import ReplicaChannel
from zerotune_trainer.inference.shards import ShardGenerator
from zerotune_trainer.inference.tracking import Counters, ProgressTracker
from zerotune_trainer.inference.verification import Gather, Work, completed, verify_written

MAX_ROUNDS = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranks:
    """This rank and how it reaches the others."""

    context: RankContext
    replica: Replica
    store: Store
    """That of the rendezvous."""
    gather: Gather


def generate_all(generator: ShardGenerator, work: Work, ranks: Ranks) -> list[WholeShard]:
    """Make every shard that is not whole. Every rank calls this.

    Returns:
        All shards, in order, each verified since the last one was written.

    Raises:
        TemporaryError: shards are not whole though they were made again.
        StoppedError: the job was asked to stop.
        SupersededError: a later attempt has the output folder.
    """
    for number in range(MAX_ROUNDS):
        if number:
            problems = [work.problems[shard] for shard in work.remaining]
            _log.warning("%d output files are made again: %s", len(problems), "; ".join(problems[:10]))
        ranks.context.report.phase("generating")
        _run_round(generator, work, ranks, number)
        ranks.context.report.phase("saving")
        work = verify_written(generator.files, ranks.context, ranks.gather)
        if not work.remaining:
            break
    return completed(generator.files.output, work)


def _run_round(generator: ShardGenerator, work: Work, ranks: Ranks, number: int) -> None:
    tracker = ProgressTracker(ranks.context, Counters(ranks.store, number), work)
    channel = ReplicaChannel(ranks.replica, ranks.store, number)
    if ranks.replica.is_leader:
        shards = _own_share(work, ranks) if number else _drawn(work, tracker)
        try:
            for shard in shards:
                generator.make(shard, tracker, channel)
        finally:
            channel.send(None)  # The others wait for nobody who has stopped.
            generator.committer.wait()
    else:
        _follow(generator, tracker, channel)
    tracker.wait_for_all()


def _drawn(work: Work, tracker: ProgressTracker) -> Iterator[int]:
    while (task := tracker.next_task()) < len(work.remaining):
        yield work.remaining[task]


def _own_share(work: Work, ranks: Ranks) -> list[int]:
    size = len(ranks.replica.ranks)
    return work.remaining[ranks.replica.leader // size :: ranks.context.world_size // size]


def _follow(generator: ShardGenerator, tracker: ProgressTracker, channel: ReplicaChannel) -> None:
    while (requests := channel.receive(tracker.wait)) is not None:
        for _ in generator.engine.run(requests, tracker.heartbeat):
            pass
