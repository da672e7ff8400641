"""How the replicas of a job share its work: no one of them leads, and each may be lost at any moment and come back.

    generate   shards that nobody works on: those that nobody has claimed, and those of a replica that was lost
    finish     all shards are whole, and this replica is the one that verifies them and writes the result
    leave      the result is there

Rank 0 of a replica looks into the output folder and decides which of these comes next; the other ranks of its world
follow. A replica that finds every shard claimed waits for the others to finish theirs, or to be lost.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field
from torch.distributed.distributed_c10d import PrefixStore, Store

from zerotune_trainer.atomic import remove_drafts
from zerotune_trainer.collectives import Collectives
from zerotune_trainer.config import InferConfig
from zerotune_trainer.config.base import Settings
from zerotune_trainer.context import RankContext
from zerotune_trainer.errors import TemporaryError, ZerotuneError
from zerotune_trainer.inference.claims import RESULTS_CLAIM, Claim, Claims
from zerotune_trainer.inference.heartbeats import ReplicaHeartbeats
from zerotune_trainer.inference.markers import WholeShard, size_difference
from zerotune_trainer.inference.output import ShardFiles
from zerotune_trainer.inference.plan import WORK_NAME, WorkPlan
from zerotune_trainer.inference.verification import verify_each
from zerotune_trainer.manifest import MANIFEST_NAME
from zerotune_trainer.ownership import Ownership
from zerotune_trainer.storage import Folder

_MOST_TIMES = 3
"""How often a replica makes a shard that is not whole afterwards."""
_POLL_SECONDS, _FOLLOW_SECONDS = 1.0, 0.1

_log = logging.getLogger(__name__)


class FreeShard(Settings):
    """A shard that nobody works on."""

    shard: int
    version: str | None = None
    """Of the claim of a replica that was lost."""


class Action(Settings):
    """What a replica does next."""

    kind: Literal["generate", "finish", "leave"]
    free: list[FreeShard] = Field(default=[])


@dataclass
class Sharing:
    """A replica's part in the common work, on each of its ranks."""

    context: RankContext
    claims: Claims
    heartbeats: ReplicaHeartbeats | None
    """On rank 0."""
    _made: Counter[int] = field(default_factory=Counter, init=False)

    def verify_shard(self, plan: WorkPlan) -> Callable[[int], None]:
        """See that a shard is this replica's still, as `Claims.verify`."""
        return lambda shard: self.claims.verify(plan.claim_name(shard))

    def claim(self, name: str) -> bool:
        """Claim what is nobody's, or is of a replica that was lost. Rank 0 calls this."""
        assert self.heartbeats is not None, "rank 0 calls this"
        found = self.claims.read(name)
        self.heartbeats.poll()
        if found is not None and self._is_held(found.claim):
            return False
        return self.claims.take(name, found.version if found else None)

    def next_action(self, store: Store, number: int, files: ShardFiles, missing: set[int], wait: Wait) -> Action:
        """What this replica does next. Every rank calls this, and all get the same answer.

        Args:
            store: That of the rendezvous.
            number: How many actions there have been.
            files: The shards' files.
            missing: The shards that were not whole when rank 0 last looked; those that are by now are taken out of it.
            wait: Waits so many seconds, and raises where the rank is to stop.

        Raises:
            TemporaryError: a shard is not whole, though this replica has made it again and again.
        """
        actions = PrefixStore("inference/actions", store)
        if self.heartbeats is None:
            while not actions.check([str(number)]):
                wait(_FOLLOW_SECONDS)
            return Action.model_validate_json(actions.get(str(number)))
        while (action := self._decide(files, missing)) is None:
            wait(_POLL_SECONDS)
        actions.set(str(number), action.model_dump_json(by_alias=True))
        return action

    def _decide(self, files: ShardFiles, missing: set[int]) -> Action | None:
        """The next action; None: everything is being worked on by others."""
        found = verify_each(files, self._marked(files, missing), size_difference)
        missing.difference_update(shard for shard, result in found.items() if isinstance(result, WholeShard))
        free = self._free(files, missing)
        # Asked for last: the work is removed after the manifest was written, and looks then as if nobody had begun it.
        if files.output.read(MANIFEST_NAME) is not None:
            return Action(kind="leave")
        if not missing:
            return Action(kind="finish") if self.claim(RESULTS_CLAIM) else None
        self._made.update(each.shard for each in free if each.version is not None)
        return Action(kind="generate", free=free) if free else None

    def _marked(self, files: ShardFiles, missing: set[int]) -> list[int]:
        there = set(files.output.children(WORK_NAME))
        return [shard for shard in sorted(missing) if files.plan.marker_name(shard).removeprefix(_WORK) in there]

    def _free(self, files: ShardFiles, missing: set[int]) -> list[FreeShard]:
        """The missing shards that nobody works on, those first that are this replica's share of them all."""
        assert self.heartbeats is not None, "rank 0 calls this"
        there = set(files.output.children(WORK_NAME))
        names = {shard: files.plan.claim_name(shard) for shard in sorted(missing)}
        claimed = {shard: self.claims.read(name) for shard, name in names.items() if name.removeprefix(_WORK) in there}
        self.heartbeats.poll()
        free = []
        for shard in names:
            found = claimed.get(shard)
            if found is None:
                free.append(FreeShard(shard=shard))
            elif not self._is_held(found.claim):
                self._check_made(shard, found.claim, files)
                free.append(FreeShard(shard=shard, version=found.version))
        first = len(free) * self.context.replica // self.context.replicas
        return free[first:] + free[:first]

    def _is_held(self, claim: Claim | None) -> bool:
        assert self.heartbeats is not None, "rank 0 calls this"
        return claim is not None and claim != self.claims.mine and self.heartbeats.is_alive(claim)

    def _check_made(self, shard: int, claim: Claim | None, files: ShardFiles) -> None:
        """See that a shard which this replica has made before is not made for ever."""
        if claim is None or claim != self.claims.mine:
            _log.warning("shard %d is taken over from replica %s", shard, claim and claim.replica)
        elif self._made[shard] >= _MOST_TIMES:
            raise TemporaryError(
                f"{files.output.uri}: {files.plan.file_name(shard)} is not whole, though it was made again "
                f"{_MOST_TIMES} times",
                "see what else writes to this folder, and that its volume or store keeps what is written",
            )


_WORK = f"{WORK_NAME}/"

Wait = Callable[[float], None]


@contextmanager
def joined(config: InferConfig, context: RankContext, output: Folder, group: Collectives) -> Iterator[Sharing | None]:
    """This replica's part in the common work, as long as it takes part; None where it is the only one.

    Every rank calls this.

    Raises:
        ConfigurationError, SupersededError: as `Ownership.acquire`.
    """
    if context.replicas == 1:
        yield None
        return
    ownership, heartbeats = Ownership(output, config.job), None

    def start() -> str:
        nonlocal heartbeats
        mine = Claim(attempt=config.job.attempt, replica=context.replica, start=uuid.uuid4().hex)
        if ownership.acquire():
            remove_drafts(output.local / WORK_NAME)
        heartbeats = ReplicaHeartbeats(ownership, mine, context.replicas, config.launch.replica_timeout_seconds)
        heartbeats.start()
        return mine.model_dump_json(by_alias=True)

    mine = Claim.model_validate_json(group.on_first_rank(start, str))
    try:
        yield Sharing(context, Claims(output, mine), heartbeats)
    finally:
        if heartbeats is not None:
            heartbeats.close()
            _clear(output)


def _clear(output: Folder) -> None:
    """Remove the work of a job that has its result: each replica as it leaves, for it may have written there since."""
    try:
        if output.read(MANIFEST_NAME) is not None:
            output.remove(WORK_NAME)
    except (ZerotuneError, OSError) as error:
        _log.warning("%s/%s is left to the replica that ends last: %s", output.uri, WORK_NAME, error)
