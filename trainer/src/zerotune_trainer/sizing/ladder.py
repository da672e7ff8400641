"""The ZeRO ladder: the first rung that the spec allows and that fits, and why not the others. Torch-free and pure."""

from __future__ import annotations

from zerotune_trainer.config.training import Zero
from zerotune_trainer.sizing.memory import Rung, Workload, gib, weigh

USABLE = 0.85
"""Share of a memory that is planned with; the rest is for fragments, libraries and what the estimate does not know."""


def choose(workload: Workload, zero: Zero) -> tuple[Rung, ...]:
    """The ladder, with a reason at every rung and one of them taken.

    Taken is the first rung that `zero` allows and that fits. Where none fits and the stage is fixed, the one of that
    stage that takes least is taken nevertheless; where the stage is `auto`, none is. Where memory is unknown the rung
    that takes least on the device is taken: a job that runs somewhat slower is better than one that fails after an hour
    in a queue.
    """
    judged = [_judge(rung, workload, zero) for rung in weigh(workload)]
    candidates = [rung for rung in judged if not rung.reason]
    taken = _taken(candidates, zero)
    return tuple(_explain(rung, taken, workload, zero) for rung in judged)


def _taken(candidates: list[Rung], zero: Zero) -> Rung | None:
    fitting = [rung for rung in candidates if rung.fits]
    unknown = [rung for rung in candidates if rung.fits is None]
    on_device = [rung for rung in unknown if rung.offload_optimizer == "none"]
    if fitting:
        return fitting[0]
    if unknown:
        return min(on_device or unknown, key=lambda rung: rung.device_bytes)
    return candidates[-1] if candidates and zero.stage != "auto" else None


def _judge(rung: Rung, workload: Workload, zero: Zero) -> Rung:
    return rung.model_copy(update={"fits": _fits(rung, workload), "reason": _exclusion(rung, workload, zero)})


def _fits(rung: Rung, workload: Workload) -> bool | None:
    limits = [(rung.node_bytes, workload.node_bytes)]
    if not workload.on_cpu:
        limits.append((rung.device_bytes, workload.device_bytes))
    if any(there is not None and needed > USABLE * there for needed, there in limits):
        return False
    decisive = limits[-1][1]
    return None if decisive is None else True


def _exclusion(rung: Rung, workload: Workload, zero: Zero) -> str:
    """Why a rung is no candidate at all; empty where it is one."""
    fixed = [
        ("stage", zero.stage, rung.stage),
        ("offloadOptimizer", zero.offload_optimizer, rung.offload_optimizer),
        ("offloadParam", zero.offload_param, rung.offload_param),
    ]
    for name, wanted, offered in fixed:
        if wanted not in ("auto", offered):
            return f"zero.{name} is {wanted}"
    offloads = rung.offload_optimizer == "cpu"
    if offloads and workload.on_cpu and "cpu" not in (zero.offload_optimizer, zero.offload_param):
        return "a CPU rank's memory is the node's already"
    if rung.stage and not offloads and workload.data_parallel == 1 and zero.stage == "auto":
        return "one data-parallel rank has nobody to share with"
    return ""


def _explain(rung: Rung, taken: Rung | None, workload: Workload, zero: Zero) -> Rung:
    if rung == taken:
        return rung.model_copy(update={"taken": True, "reason": f"taken: {_merit(rung, workload, zero)}"})
    why = rung.reason or _shortfall(rung, workload)
    return rung.model_copy(update={"reason": f"passed over: {why}"})


def _merit(rung: Rung, workload: Workload, zero: Zero) -> str:
    asked = "asked for" if zero.stage != "auto" else ""
    if rung.fits is False:
        return f"{asked}, but it is not expected to fit: {_shortfall(rung, workload)}"
    if rung.fits is None:
        return asked or f"takes least; the memory of {'a node' if workload.on_cpu else 'the GPUs'} is not known"
    return f"{asked} and fits" if asked else "the first that fits"


def _shortfall(rung: Rung, workload: Workload) -> str:
    if rung.fits is None:
        return "the memory is not known, and another rung takes less"
    if rung.fits:
        return "fits too, but shares out more than it must"
    device, node = workload.device_bytes, workload.node_bytes or 0
    if not workload.on_cpu and device is not None and rung.device_bytes > USABLE * device:
        return f"{gib(rung.device_bytes)} a GPU, usable are {gib(USABLE * device)} of {gib(device)}"
    return f"{gib(rung.node_bytes)} of a node's memory, usable are {gib(USABLE * node)} of {gib(node)}"
