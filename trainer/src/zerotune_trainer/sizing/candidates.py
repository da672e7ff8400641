"""The choice among the ZeRO candidates, and why not the others. Torch-free and pure.

Of what published runs report, which counts what the allocator keeps for later, an estimate is 75 to 105%. A candidate
fits where even then it does, is tight where its estimate is below the whole memory, which many published runs fill to
98%, and does not fit above.
"""

from __future__ import annotations

from zerotune_trainer.config.training import Zero
from zerotune_trainer.sizing.memory import Verdict, ZeroCandidate, estimate_memory
from zerotune_trainer.sizing.workload import Workload, gib

COMFORTABLE = 0.8
"""Share of a memory up to which an estimate fits whatever it errs by."""


def judge(needed: int, there: int | None) -> Verdict:
    """Whether as many bytes fit into as many."""
    if there is None:
        return "unknown"
    if needed <= COMFORTABLE * there:
        return "fits"
    return "tight" if needed <= there else "does not fit"


def choose_candidate(workload: Workload, zero: Zero) -> tuple[ZeroCandidate, ...]:
    """All candidates, with a reason for each and one of them taken.

    Taken is the first that `zero` allows and that fits; before anything is moved to the host, one that is tight. Where
    none does and the stage is fixed, the one of that stage that takes least is taken nevertheless; where the stage is
    `auto`, none is. Where memory is unknown the one that takes least on the device is taken: a job that runs somewhat
    slower is better than one that fails after an hour in a queue.
    """
    judged = [_judge(candidate, workload, zero) for candidate in estimate_memory(workload)]
    taken = _taken([candidate for candidate in judged if candidate.allowed], zero)
    return tuple(_explain(candidate, taken, workload, zero) for candidate in judged)


def _taken(allowed: list[ZeroCandidate], zero: Zero) -> ZeroCandidate | None:
    on_device = [candidate for candidate in allowed if candidate.offload_optimizer == "none"]
    offloaded = [candidate for candidate in allowed if candidate.offload_optimizer == "cpu"]
    for group in (on_device, offloaded):
        for verdict in ("fits", "tight"):
            found = next((candidate for candidate in group if candidate.verdict == verdict), None)
            if found is not None:
                return found
        unknown = [candidate for candidate in group if candidate.verdict == "unknown"]
        if unknown:
            return min(unknown, key=lambda candidate: candidate.device_bytes)
    return allowed[-1] if allowed and zero.stage != "auto" else None


def _judge(candidate: ZeroCandidate, workload: Workload, zero: Zero) -> ZeroCandidate:
    verdict, reason = _verdict(candidate, workload), _exclusion(candidate, workload, zero)
    return candidate.model_copy(update={"verdict": verdict, "allowed": not reason, "reason": reason})


def _verdict(candidate: ZeroCandidate, workload: Workload) -> Verdict:
    host = judge(candidate.node_bytes, workload.node_bytes)
    if workload.on_cpu:
        return host
    device = judge(candidate.device_bytes, workload.device_bytes)
    if "does not fit" in (device, host):
        return "does not fit"
    # What stays on the device needs little of the host, so that its memory need not be known.
    if device == "unknown" or (host == "unknown" and candidate.offload_optimizer == "cpu"):
        return "unknown"
    return "tight" if "tight" in (device, host) else "fits"


def _exclusion(candidate: ZeroCandidate, workload: Workload, zero: Zero) -> str:
    """Why a candidate is out of the question; empty where it is not."""
    fixed = [
        ("stage", zero.stage, candidate.stage),
        ("offloadOptimizer", zero.offload_optimizer, candidate.offload_optimizer),
        ("offloadParam", zero.offload_param, candidate.offload_param),
    ]
    for name, wanted, offered in fixed:
        if wanted not in ("auto", offered):
            return f"zero.{name} is {wanted}"
    if candidate.stage == 3 and workload.base_quantization:
        return "a quantized base is not partitioned"
    offloads = candidate.offload_optimizer == "cpu"
    if offloads and workload.on_cpu and "cpu" not in (zero.offload_optimizer, zero.offload_param):
        return "a CPU rank's memory is the node's already"
    if candidate.stage in (1, 2) and not offloads and workload.data_parallel == 1 and zero.stage == "auto":
        return "with one data-parallel rank there is nothing to partition"
    return ""


def _explain(candidate: ZeroCandidate, taken: ZeroCandidate | None, workload: Workload, zero: Zero) -> ZeroCandidate:
    if candidate == taken:
        return candidate.model_copy(update={"taken": True, "reason": f"taken: {_merit(candidate, workload, zero)}"})
    why = candidate.reason or _drawback(candidate, workload)
    return candidate.model_copy(update={"reason": f"not taken: {why}"})


def _merit(candidate: ZeroCandidate, workload: Workload, zero: Zero) -> str:
    asked = zero.stage != "auto"
    slow = ", slower than on the GPU" if candidate.offload_optimizer == "cpu" and not workload.on_cpu else ""
    match candidate.verdict:
        case "does not fit":
            return f"asked for, but it is not expected to fit: {drawback(candidate, workload)}"
        case "unknown":
            place = "a node" if workload.on_cpu or workload.device_bytes is not None else "the GPUs"
            return "asked for" if asked else f"takes least; the memory of {place} is not known{slow}"
        case "tight":
            return (
                f"{'asked for' if asked else 'the first that can fit'}, but tight: {shares(candidate, workload)}{slow}"
            )
        case _:
            return f"{'asked for and fits' if asked else 'the first that fits'}{slow}"


def _drawback(candidate: ZeroCandidate, workload: Workload) -> str:
    slow = "slower: the optimizer runs on the CPU" if candidate.offload_optimizer == "cpu" else ""
    match candidate.verdict:
        case "unknown":
            return slow or "the memory is not known, and another one takes less"
        case "fits":
            return slow or "fits too, but partitions more than it must"
        case "tight":
            return f"tight: {shares(candidate, workload)}"
        case _:
            return f"does not fit: {shares(candidate, workload)}"


def drawback(candidate: ZeroCandidate, workload: Workload) -> str:
    """What a candidate takes that does not fit, and what there is: `24.1 GiB a GPU of 22.5 GiB`."""
    device, node = workload.device_bytes, workload.node_bytes or 0
    if not workload.on_cpu and judge(candidate.device_bytes, device) == "does not fit":
        return f"{gib(candidate.device_bytes)} a GPU of {gib(device or 0)}"
    return f"{gib(candidate.node_bytes)} of a node's {gib(node)}"


def shares(candidate: ZeroCandidate, workload: Workload) -> str:
    """How full GPU and node get: `94% of a GPU, 20% of a node`."""
    device = None if workload.on_cpu else workload.device_bytes
    parts = ((candidate.device_bytes, device, "a GPU"), (candidate.node_bytes, workload.node_bytes, "a node"))
    return ", ".join(f"{needed / there:.0%} of {name}" for needed, there, name in parts if there)
