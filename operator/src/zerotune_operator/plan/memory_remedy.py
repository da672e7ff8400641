"""What would make a job fit that does not: the mildest change of its spec, by trying."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from zerotune_trainer.config.training import Zero
from zerotune_trainer.sizing.candidates import COMFORTABLE, choose_candidate
from zerotune_trainer.sizing.memory import Verdict
from zerotune_trainer.sizing.workload import GIB, Workload

_MOST_NODES, _SHORTEST = 128, 128
"""The most nodes and the shortest `data.maxLength` that are suggested."""


class _Change(NamedTuple):
    """Fields of the spec as they would be, and the workload that it makes."""

    fields: tuple[str, ...]
    workload: Workload
    zero: Zero

    def then(self, field: str, **update: int | bool | str) -> _Change:
        """The same with another field changed before these."""
        return _Change((field, *self.fields), self.workload.model_copy(update=update), self.zero)

    @property
    def text(self) -> str:
        return " and ".join(self.fields)

    @property
    def verdict(self) -> Verdict | None:
        candidates = choose_candidate(self.workload, self.zero)
        return next((candidate.verdict for candidate in candidates if candidate.taken), None)


def memory_remedy(workload: Workload, zero: Zero) -> str:
    """The hint for a job of which no candidate fits, or only one that `zero` does not allow.

    What trains the same model on the same rows comes first; shorter rows are offered beside more nodes or memory.
    """
    kept = list(_settings(_Change((), workload, zero)))
    freed = list(_settings(_Change(("zero.stage: auto",), workload, Zero()))) if zero.stage != "auto" else []
    if same := _first(iter([*freed[:1], *kept[1:], *freed[1:]])):
        return same
    machines = _first(_more_nodes(kept)) or _more_memory(kept) or _first(_more_nodes(freed)) or _more_memory(freed)
    remedies = filter(None, (machines, _first(_shorter_rows((freed or kept)[-1]))))
    return "; or ".join(remedies) or "use a smaller model or larger GPUs"


def _first(changes: Iterator[_Change]) -> str | None:
    """The first change that fits, else the first that fits tightly."""
    found: dict[Verdict | None, str] = {}
    for change in changes:
        found.setdefault(change.verdict, change.text)
        if "fits" in found:
            return f"this would fit: {found['fits']}"
    return f"this would fit, but tightly: {found['tight']}" if "tight" in found else None


def _settings(change: _Change) -> Iterator[_Change]:
    """A change, and others of how the job computes, the mildest first; each comes on top of the ones before."""
    workload = change.workload
    yield change
    if workload.attention == "eager":
        change = change.then("model.attnImplementation: auto", attention="auto")
        yield change
    if not workload.gradient_checkpointing:
        change = change.then("training.gradientCheckpointing: true", gradient_checkpointing=True)
        yield change
    if workload.evaluation_batch > 1:
        change = change.then("training.perDeviceEvalBatchSize: 1", evaluation_batch=1)
        yield change
    if workload.micro_batch > 1:
        change = change.then("training.perDeviceTrainBatchSize: 1", micro_batch=1)
        yield change


def _more_nodes(settings: list[_Change]) -> Iterator[_Change]:
    times = 1
    while (times := times * 2) <= _MOST_NODES:
        for change in settings:
            ranks = times * change.workload.data_parallel
            nodes = ranks // change.workload.ranks_per_node
            if nodes <= _MOST_NODES:
                yield change.then(f"topology.nodes: {nodes}", data_parallel=ranks)


def _more_memory(settings: list[_Change]) -> str | None:
    for change in settings:
        unlimited = choose_candidate(change.workload.model_copy(update={"node_bytes": None}), change.zero)
        taken = next((each for each in unlimited if each.taken and each.verdict != "does not fit"), None)
        if taken is not None:
            fields = (f"topology.memory: {math.ceil(taken.node_bytes / COMFORTABLE / GIB)}Gi", *change.fields)
            return f"this would fit: {' and '.join(fields)}"
    return None


def _shorter_rows(mildest: _Change) -> Iterator[_Change]:
    length = mildest.workload.sequence_length
    while (length := length // 2) >= _SHORTEST:
        yield mildest.then(f"data.maxLength: {length}", sequence_length=length)
