"""Which checkpoints a job keeps. Pure: it decides by step and state alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Retained:
    """What the policy knows of a checkpoint."""

    step: int
    usable: bool
    """Complete, and not known to be damaged."""


def superfluous(checkpoints: Iterable[Retained], *, step: int, limit: int, best: int | None) -> list[int]:
    """Steps of the checkpoints that may go once the checkpoint of `step` is complete, in order.

    The newest `limit` usable ones up to `step` stay, and the best. One that is not usable takes nobody's place, and
    goes only when it is older than those newest ones (the best may be older still): until then a person may mend it.
    Later ones than `step` are of a run that was resumed from before them; they stay until this run comes to their step
    and replaces them.

    Args:
        checkpoints: What there is, in any order.
        step: The step whose checkpoint has just been completed.
        limit: How many to keep (`checkpoint.saveTotalLimit`), at least 1.
        best: Step of the state that evaluated best, where the output is to be made of it.
    """
    earlier = sorted((one for one in checkpoints if one.step <= step), key=lambda one: one.step)
    usable = [one.step for one in earlier if one.usable]
    kept = set(usable[-limit:])
    oldest = min(kept, default=0)
    return [one.step for one in earlier if one.step not in kept | {best} and (one.usable or one.step < oldest)]
