"""The ranks of a model replica among themselves: the leader hands out what it has drawn, the others follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import TypeAdapter
from torch.distributed.distributed_c10d import PrefixStore, Store

from zerotune_trainer.inference.engine import ModelReplica, Request

_POLL_SECONDS = 0.02

_REQUESTS = TypeAdapter(list[Request] | None)


def model_replica_of(rank: int, local_rank: int, ranks_per_model_replica: int, world_size: int) -> ModelReplica:
    """The model replica that a rank belongs to: neighbouring ranks, so that they share a host where they can.

    Raises:
        ValueError: the ranks do not divide into model replicas.
    """
    if world_size % ranks_per_model_replica:
        raise ValueError(f"{world_size} ranks do not divide into model replicas of {ranks_per_model_replica}")
    first = rank - rank % ranks_per_model_replica
    return ModelReplica(tuple(range(first, first + ranks_per_model_replica)), rank, local_rank)


class ModelReplicaChannel:
    """What the leader sends, in order, through the store of the rendezvous: as JSON, never as pickles.

    Args:
        replica: The model replica.
        store: The store.
        number: The round of work, so that nothing of an earlier one is read.
    """

    def __init__(self, replica: ModelReplica, store: Store, number: int) -> None:
        self._replica = replica
        self._store = PrefixStore(f"inference/{number}/replica-{replica.leader}", store)
        self._next = 0

    def send(self, requests: Sequence[Request] | None) -> None:
        """Hand the requests of a task to the followers; None: there are no more."""
        if len(self._replica.ranks) > 1:
            self._store.set(str(self._next), _REQUESTS.dump_json(None if requests is None else list(requests)).decode())
            self._next += 1

    def receive(self, wait: Callable[[float], None]) -> list[Request] | None:
        """What the leader sends next.

        Args:
            wait: Waits so many seconds.
        """
        key = str(self._next)
        while not self._store.check([key]):
            wait(_POLL_SECONDS)
        self._next += 1
        return _REQUESTS.validate_json(self._store.get(key))
