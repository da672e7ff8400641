"""How the state of a training is partitioned, and on which instance types a checkpoint of it loads. Pure."""

from __future__ import annotations

from typing import NamedTuple

from zerotune_operator.api.plan_summary import RankPlan
from zerotune_operator.plan.instance_types import joined
from zerotune_operator.plan.plan import Plan
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ConfigurationError


class Partition(NamedTuple):
    """Each rank writes its part of a checkpoint, and so many ranks of the same ZeRO stage load it."""

    ranks: int
    zero_stage: int | None

    @classmethod
    def of(cls, plan: RankPlan) -> Partition:
        """That of the checkpoints that the ranks of a plan write."""
        return cls(plan.world_size, plan.zero_stage)

    def __str__(self) -> str:
        return f"{counted(self.ranks, 'rank')} at ZeRO stage {self.zero_stage}"


def loading(plan: Plan, written: Partition | None) -> Plan:
    """The plan, without the instance types whose ranks do not load the checkpoints that are there.

    Args:
        plan: For one instance type or several.
        written: The partition of those checkpoints. None: there are none, or they load everywhere.

    Raises:
        ConfigurationError: they load on none of them.
    """
    plans = plan.alternatives or (plan,)
    others = {str(each.instance_type): Partition.of(each.summary()) for each in plans}
    left_out = {name: _reason(found, written) for name, found in others.items() if written not in (None, found)}
    if not left_out:
        return plan
    kept = [each for each in plans if each.instance_type not in left_out]
    if not kept:
        raise ConfigurationError(
            "; ".join(f"{name}: {reason}" for name, reason in left_out.items()),
            "name the instance type that the job ran on before, or start over under another name",
        )
    return joined(kept, dict(plan.left_out) | left_out)


def _reason(found: Partition, written: Partition | None) -> str:
    return f"its {found} do not load the checkpoints of this job, which are of {written}"
