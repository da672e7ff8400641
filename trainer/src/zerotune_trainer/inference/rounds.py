"""Rounds of work until every shard is whole: generate what is missing, wait for all ranks, verify.

One round does it, unless files vanish or change after they were written, or something raises the counter that hands out
the tasks: then the ranks are through too soon. Later rounds deal the shards out by their numbers, without that counter.

Of several replicas each makes what it finds free, one action after another (`sharing.py`), and one goes through the
rounds that are left once every shard is there.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch.distributed.distributed_c10d import Store

from zerotune_trainer.context import RankContext
from zerotune_trainer.inference.claims import RESULTS_CLAIM
from zerotune_trainer.inference.engine import ModelReplica
from zerotune_trainer.inference.markers import WholeShard
from zerotune_trainer.inference.model_replica import ModelReplicaChannel
from zerotune_trainer.inference.shards import ShardGenerator
from zerotune_trainer.inference.sharing import FreeShard, Sharing
from zerotune_trainer.inference.tracking import Counters, ProgressTracker
from zerotune_trainer.inference.verification import Gather, Work, completed, verify_written

MAX_ROUNDS = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranks:
    """This rank and how it reaches the others."""

    context: RankContext
    model_replica: ModelReplica
    store: Store
    """That of the rendezvous."""
    gather: Gather


def generate_all(generator: ShardGenerator, work: Work, ranks: Ranks, first: int = 0) -> list[WholeShard]:
    """Make every shard that is not whole. Every rank calls this.

    Args:
        generator: Makes them.
        work: What is to be done.
        ranks: This rank and the others.
        first: The number of the first round, and how many actions came before it.

    Returns:
        All shards, in order, each verified since the last one was written.

    Raises:
        TemporaryError: shards are not whole though they were made again.
        StoppedError: the job was asked to stop.
        SupersededError: a later attempt has the output folder.
    """
    for number in range(first, first + MAX_ROUNDS):
        if number:
            problems = [work.problems[shard] for shard in work.remaining]
            _log.warning("%d output files are made again: %s", len(problems), "; ".join(problems[:10]))
        ranks.context.report.phase("generating")
        tracker = ProgressTracker(ranks.context, Counters(ranks.store, number), work)
        deal = _own_share if number else _drawn
        _run_round(generator, ranks, number, tracker, deal(work, tracker, ranks))
        ranks.context.report.phase("saving")
        work = verify_written(generator.files, ranks.context, ranks.gather)
        if not work.remaining:
            break
    return completed(generator.files.output, work)


def generate_shared(generator: ShardGenerator, work: Work, ranks: Ranks, sharing: Sharing) -> list[WholeShard] | None:
    """Make shards that are not whole beside other replicas, until all are. Every rank calls this.

    Returns:
        As `generate_all`, on the replica that is to write the result; None where another one has written it.

    Raises:
        As `generate_all`.
    """
    missing, number = set(work.remaining), 0
    before = work.of_earlier_attempts(sharing.claims.mine.attempt)
    while True:
        ranks.context.report.phase("generating")
        tracker = ProgressTracker(ranks.context, Counters(ranks.store, number, "actions"), before, sharing.heartbeats)
        action = sharing.next_action(ranks.store, number, generator.files, missing, tracker.pause)
        if action.kind == "leave":
            return None
        if action.kind == "finish":
            return _finish(generator, ranks, sharing, number + 1)
        _run_round(generator, ranks, number, tracker, _claimed(action.free, tracker, generator, sharing))
        number += 1


def _finish(generator: ShardGenerator, ranks: Ranks, sharing: Sharing, first: int) -> list[WholeShard]:
    """See that all shards are whole, byte by byte, and make those again that are not, which nobody else does now."""
    files = dataclasses.replace(generator.files, verify_claim=lambda _: sharing.claims.verify(RESULTS_CLAIM))
    ranks.context.report.phase("saving")
    work = verify_written(files, ranks.context, ranks.gather)
    if not work.remaining:
        return completed(files.output, work)
    return generate_all(dataclasses.replace(generator, files=files), work, ranks, first)


def _run_round(
    generator: ShardGenerator, ranks: Ranks, number: int, tracker: ProgressTracker, shards: Iterable[int]
) -> None:
    channel = ModelReplicaChannel(ranks.model_replica, ranks.store, number)
    if ranks.model_replica.is_leader:
        try:
            for shard in shards:
                generator.make(shard, tracker, channel)
        finally:
            channel.send(None)  # The others wait for nobody who has stopped.
            generator.committer.wait()
    else:
        _follow(generator, tracker, channel)
    tracker.wait_for_all()


def _drawn(work: Work, tracker: ProgressTracker, _: Ranks) -> Iterator[int]:
    while (task := tracker.next_task()) < len(work.remaining):
        yield work.remaining[task]


def _own_share(work: Work, _: ProgressTracker, ranks: Ranks) -> list[int]:
    size = len(ranks.model_replica.ranks)
    return work.remaining[ranks.model_replica.leader // size :: ranks.context.world_size // size]


def _claimed(
    free: list[FreeShard], tracker: ProgressTracker, generator: ShardGenerator, sharing: Sharing
) -> Iterator[int]:
    while (task := tracker.next_task()) < len(free):
        each = free[task]
        if sharing.claims.take(generator.files.plan.claim_name(each.shard), each.version):
            yield each.shard


def _follow(generator: ShardGenerator, tracker: ProgressTracker, channel: ModelReplicaChannel) -> None:
    while (requests := channel.receive(tracker.wait)) is not None:
        for _ in generator.engine.run(requests, tracker.heartbeat):
            pass
