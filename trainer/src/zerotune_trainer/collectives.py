"""What the ranks exchange beside training: values as JSON over a group in host memory, never as pickles.

An object collective of torch (`all_gather_object`) unpickles what another rank sends, which runs whatever code that
rank likes. Here a value is written and read by its type, and what does not fit the type is rejected.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from pydantic import TypeAdapter

from zerotune_trainer.errors import Failure, ZerotuneError, error_of
from zerotune_trainer.failures import classify, describe

T = TypeVar("T")

_control: Any = None
"""The group of these exchanges: in host memory, and its waits may be long."""


class Collectives(Protocol):
    """This module, as a part of a job that takes it as an argument sees it."""

    def on_first_rank(self, action: Callable[[], T], kind: type[T]) -> T:
        """As `on_first_rank`."""

    def gather(self, value: T, kind: type[T]) -> list[T]:
        """As `gather`."""


def start(timeout: timedelta) -> None:
    """Make the group, once the process group is there. `timeout`: how long ranks wait for one that works alone."""
    global _control
    _control = dist.new_group(backend="gloo", timeout=timeout)


class StepSync:
    """The exchange of a step: whether a rank was asked to stop, and how many tokens each trained on.

    It runs beside the forward and backward pass, on a group of its own in host memory, so that a step waits neither for
    it nor for the device.
    """

    def __init__(self, timeout: timedelta) -> None:
        self._group: Any = dist.new_group(backend="gloo", timeout=timeout)
        self._sums = torch.zeros(2, dtype=torch.int64)
        self._work: dist.Work | None = None

    def start(self, *, stop: bool, tokens: int) -> None:
        """Start the exchange. Every rank calls this at the same point."""
        self._sums = torch.tensor([int(stop), tokens], dtype=torch.int64)
        self._work = dist.all_reduce(self._sums, group=self._group, async_op=True)

    def wait(self) -> tuple[bool, int]:
        """Whether any rank was asked to stop, and the tokens of all ranks."""
        assert self._work is not None, "start() comes first"
        self._work.wait()
        stops, tokens = self._sums.tolist()
        return stops > 0, tokens


def on_first_rank(action: Callable[[], T], kind: type[T]) -> T:
    """Do something on rank 0 and give its result, or its error, to every rank.

    Args:
        action: What to do.
        kind: The type of its result, by which it travels as JSON.

    Raises:
        ZerotuneError, OSError: what `action` raised; other ranks raise it as one of our errors.
    """
    if dist.get_rank() != 0:
        outcome = json.loads(_from_first_rank(b""))
        if outcome["failure"] is not None:
            raise error_of(Failure.model_validate(outcome["failure"]))
        return _decode(outcome["result"], kind)
    try:
        result = action()
    except (ZerotuneError, OSError) as error:
        failure = describe(classify(error)).model_dump(by_alias=True)
        _from_first_rank(json.dumps({"failure": failure}).encode())
        raise
    _from_first_rank(json.dumps({"failure": None, "result": _encode(result, kind)}).encode())
    return result


def gather(value: T, kind: type[T]) -> list[T]:
    """The value of every rank, in rank order, on every rank; `kind` is its type, by which it travels as JSON."""
    mine = _bytes(_encode(value, kind).encode())
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(mine)]), group=_control)
    lengths = [int(size) for size in sizes]
    padded = torch.nn.functional.pad(mine, (0, max(lengths) - len(mine)))
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded, group=_control)
    return [_decode(part[:size].numpy().tobytes().decode(), kind) for part, size in zip(parts, lengths, strict=True)]


def barrier() -> None:
    """Wait until every rank is here, however long one of them works alone before."""
    dist.barrier(group=_control)


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank."""
    return any(gather(flag, bool))


def _from_first_rank(content: bytes) -> bytes:
    size = torch.tensor([len(content)])
    dist.broadcast(size, src=0, group=_control)
    received = _bytes(content) if dist.get_rank() == 0 else torch.empty(int(size), dtype=torch.uint8)
    dist.broadcast(received, src=0, group=_control)
    return received.numpy().tobytes()


def _bytes(content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _encode(value: T, kind: type[T]) -> str:
    # Not pydantic's own JSON, in which a loss that is no number becomes null.
    return json.dumps(TypeAdapter(kind).dump_python(value, mode="json", by_alias=True))


def _decode(text: str, kind: type[T]) -> T:
    return TypeAdapter(kind).validate_json(text)
