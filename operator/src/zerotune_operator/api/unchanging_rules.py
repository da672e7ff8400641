"""Rules that keep a spec as it was created, but for what may change while a job lives."""

from __future__ import annotations

from zerotune_operator.api.backend import CHANGEABLE, SageMakerSpec
from zerotune_operator.api.fields import fields_of
from zerotune_operator.api.topology import Topology
from zerotune_trainer.config.base import Rule


def _same(name: str, *, optional: bool) -> str:
    """That a field is what it was."""
    if not optional:
        return f"self.{name} == oldSelf.{name}"
    return f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"


def unchanging(kind: str, always: tuple[str, ...], optional: tuple[str, ...] = ()) -> tuple[Rule, ...]:
    """Rules that keep fields of a spec as they were created; `optional` ones may be absent."""
    same = {name: _same(name, optional=False) for name in always} | {
        name: _same(name, optional=True) for name in optional
    }
    return tuple(
        Rule(
            cel,
            f"{name} of {kind} cannot change, only runPolicy can: delete the job and create it anew",
            name,
        )
        for name, cel in same.items()
    )


def unchanging_backend(kind: str) -> Rule:
    """The rule that keeps the backend as it was created, but for what may change while a job runs."""
    place = "backend.sagemaker"
    fields = (
        _same(f"{place}.{name}", optional=info.default is None)
        for name, info in fields_of(SageMakerSpec).items()
        if name not in CHANGEABLE
    )
    others = " && ".join(_same(f"backend.{name}", optional=True) for name in ("kubernetes", "local"))
    kept = " && ".join(f"({each})" for each in fields)
    changeable = " and ".join(f"sagemaker.{name}" for name in sorted(CHANGEABLE))
    return Rule(
        f"{others} && has(self.{place}) == has(oldSelf.{place}) && (!has(self.{place}) || {kept})",
        f"backend of {kind} cannot change, but for {changeable}: delete the job and create it anew",
        "backend",
    )


def unchanging_topology() -> Rule:
    """The rule that keeps the topology as it was created, but for the replicas, which may change between attempts."""
    fields = fields_of(Topology).items()
    kept = [_same(f"topology.{name}", optional=info.default is None) for name, info in fields if name != "replicas"]
    return Rule(
        " && ".join(f"({each})" for each in kept)
        + " && (self.topology.replicas == oldSelf.topology.replicas || oldSelf.runPolicy.suspend)",
        "topology of an InferenceJob cannot change, but for replicas while runPolicy.suspend is true: suspend the job "
        "first; for anything else, delete it and create it anew",
        "topology",
    )
