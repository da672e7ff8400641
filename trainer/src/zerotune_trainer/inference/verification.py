"""How much of the work is done, by what lies in the output folder and by nothing else. All ranks verify, each a share.

The counters that the ranks share, what a rank remembers having written, a listing of the folder: none of these proves
that an output file is there. So the shards are verified when an attempt starts and again when all ranks are through;
what is missing then is made again, and the manifest is written of what was verified.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.generation import InferenceOutputFormat
from zerotune_trainer.context import RankContext
from zerotune_trainer.errors import TemporaryError
from zerotune_trainer.inference.markers import Difference, WholeShard, content_difference, size_difference, verify_shard
from zerotune_trainer.inference.partial import read_commits
from zerotune_trainer.inference.plan import WORK_NAME, WorkPlan
from zerotune_trainer.storage import Folder

Gather = Callable[[str], list[str]]
"""Gives every rank the values of all ranks, in rank order."""

VERIFY_AGAIN_SECONDS = (0.5, 3.0)
"""How long shards that should be whole and are not are given to appear: NFS, and some stores, list new files late."""

_FILES_AT_ONCE = 8
_NAMED = 10


class Place(Protocol):
    """Where the shards of a plan are, and the names of columns that they are to have."""

    @property
    def output(self) -> Folder:
        """The output folder."""

    @property
    def plan(self) -> WorkPlan:
        """The plan."""

    @property
    def names(self) -> InferenceOutputFormat:
        """The names."""


@dataclass(frozen=True)
class Work:
    """The plan, and how much of it is done."""

    plan: WorkPlan
    whole: dict[int, WholeShard]
    """The shards that are whole, by their numbers."""
    problems: dict[int, str]
    """Of all other shards: what is wrong."""
    partial_records: int = 0
    """Records of those that earlier attempts have generated."""

    @cached_property
    def remaining(self) -> list[int]:
        """The shards that are still to do, in order."""
        return sorted(self.problems)

    @cached_property
    def done_records(self) -> int:
        """Records that need not be done again."""
        return sum(shard.records for shard in self.whole.values()) + self.partial_records

    @cached_property
    def failed_records(self) -> int:
        """Those of them that have an `error`."""
        return sum(shard.failed_records for shard in self.whole.values())

    def of_earlier_attempts(self, attempt: int) -> Work:
        """The work as it was when an attempt began, whose replicas count what they do. What earlier attempts have
        generated of a shard is counted by the replica that begins it."""
        whole = {number: shard for number, shard in self.whole.items() if shard.attempt < attempt}
        return Work(self.plan, whole, self.problems)


class _Share(Settings):
    """What one rank has found."""

    whole: list[WholeShard]
    problems: dict[int, str]
    partial_records: int


def verify(place: Place, context: RankContext, gather: Gather) -> Work:
    """See which shards are whole, by markers and sizes. Every rank calls this, and all get the same answer.

    Raises:
        ConfigurationError, TemporaryError: the store rejects or does not answer, so that nobody knows.
    """
    return _together(place, verify_each(place, _share(place.plan, context), size_difference), gather)


def verify_written(place: Place, context: RankContext, gather: Gather) -> Work:
    """As `verify`, byte by byte, of shards that should all be whole: those that are not are verified again, a little
    later.
    """
    found = verify_each(place, _share(place.plan, context), content_difference)
    for seconds in VERIFY_AGAIN_SECONDS:
        missing = [shard for shard, result in found.items() if isinstance(result, str)]
        if not missing:
            break
        time.sleep(seconds)
        _refresh_listing(place.output)
        found |= verify_each(place, missing, content_difference)
    return _together(place, found, gather)


def completed(output: Folder, work: Work) -> list[WholeShard]:
    """All shards, in order.

    Raises:
        TemporaryError: a shard is not whole, though it was made again.
    """
    whole = [work.whole[shard] for shard in work.plan.shards if shard in work.whole]
    records = sum(shard.records for shard in whole)
    if work.problems or len(whole) != len(work.plan.shards) or records != work.plan.records:
        problems = [work.problems[shard] for shard in work.remaining[:_NAMED]]
        more = len(work.remaining) - len(problems)
        raise TemporaryError(
            f"{output.uri} holds {records} of {work.plan.records} records, after its missing files were made again: "
            f"{'; '.join(problems)}{f'; and {more} more' if more else ''}",
            "see what else writes to this folder, and that its volume or store keeps what is written",
        )
    return whole


def _share(plan: WorkPlan, context: RankContext) -> Sequence[int]:
    return plan.shards[context.rank :: context.world_size]


def verify_each(place: Place, shards: Sequence[int], difference: Difference) -> dict[int, WholeShard | str]:
    """Of each of these shards that it is whole, or what is wrong with it. One rank does it, without the others."""

    def verify_one(shard: int) -> WholeShard | str:
        found = verify_shard(place.output, place.plan, shard, place.names, difference)
        return found if isinstance(found, str) else found.whole

    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        return dict(zip(shards, pool.map(verify_one, shards), strict=True))


def _together(place: Place, found: dict[int, WholeShard | str], gather: Gather) -> Work:
    problems = {shard: result for shard, result in found.items() if isinstance(result, str)}
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        kept = pool.map(lambda shard: read_commits(place.output, place.plan, shard), problems)
        partial_records = sum(len(commit.texts) for commits in kept for commit in commits)
    mine = _Share(
        whole=[result for result in found.values() if isinstance(result, WholeShard)],
        problems=problems,
        partial_records=partial_records,
    )
    shares = [_Share.model_validate_json(share) for share in gather(mine.model_dump_json(by_alias=True))]
    return Work(
        place.plan,
        {shard.shard: shard for share in shares for shard in share.whole},
        {shard: problem for share in shares for shard, problem in share.problems.items()},
        sum(share.partial_records for share in shares),
    )


def _refresh_listing(output: Folder) -> None:
    """List the folders: an NFS client asks the server then for what it had remembered of names that were not there."""
    if not output.is_staged:
        for folder in (output.local, output.local / WORK_NAME):
            if folder.is_dir():
                list(folder.iterdir())
