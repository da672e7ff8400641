"""What a job needs of memory, and whether it is there."""

from __future__ import annotations

import math
from collections.abc import Iterator

from zerotune_operator.api.jobs import FineTuneJobSpec, InferenceJobSpec
from zerotune_operator.plan.batch import Batch
from zerotune_operator.plan.topology import PlannedTopology
from zerotune_trainer.config.training import Zero
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.ladder import USABLE, choose
from zerotune_trainer.sizing.memory import GIB, GenerationMemory, Precision, Rung, Workload, generation_memory, gib
from zerotune_trainer.sizing.shape import ModelShape

_MOST_NODES_SUGGESTED = 128


def training_memory(
    spec: FineTuneJobSpec, shape: ModelShape, precision: Precision, batch: Batch, topology: PlannedTopology
) -> tuple[Rung, ...]:
    """The ZeRO ladder of a FineTuneJob, one rung of it taken.

    Raises:
        ConfigurationError: no rung fits, or a fixed one cannot possibly; the hint says what would.
    """
    workload = Workload(
        shape=shape,
        precision=precision,
        micro_batch=batch.micro,
        sequence_length=spec.data.max_length,
        data_parallel=batch.data_parallel,
        ranks_per_node=topology.ranks_per_node,
        on_cpu=topology.accelerator == "cpu",
        gradient_checkpointing=spec.training.gradient_checkpointing,
        eager_attention=spec.model.attn_implementation == "eager",
        masked=_is_masked(spec),
        fused_loss=spec.training.use_liger_kernel,
        device_bytes=topology.device_bytes,
        node_bytes=topology.node_bytes,
    )
    rungs = choose(workload, spec.zero)
    taken = next((rung for rung in rungs if rung.taken), None)
    if taken is None or _is_impossible(taken, workload):
        raise _too_large(spec, workload, rungs)
    return rungs


def _is_masked(spec: FineTuneJobSpec) -> bool:
    """Whether attention gets a mask. `auto` may come to flash attention, which has none, but need not."""
    packing = spec.data.packing or ("wrapped" if spec.method == "cpt" else "none")
    return packing != "wrapped" and spec.model.attn_implementation != "flash_attention_2"


def _is_impossible(rung: Rung, workload: Workload) -> bool:
    """Whether weights, gradients and optimizer state alone, which are exact, exceed the whole memory."""
    states = rung.weights + rung.gradients + rung.optimizer
    if workload.on_cpu:
        return workload.node_bytes is not None and states * workload.ranks_per_node > workload.node_bytes
    return workload.device_bytes is not None and states > workload.device_bytes


def _too_large(spec: FineTuneJobSpec, workload: Workload, rungs: tuple[Rung, ...]) -> ConfigurationError:
    if all(rung.reason.startswith("passed over: zero.") for rung in rungs):
        zero = spec.zero
        return ConfigurationError(
            f"zero.stage {zero.stage}, offloadOptimizer {zero.offload_optimizer} and offloadParam {zero.offload_param} "
            f"do not go together",
            "parameters are offloaded at stage 3 together with the optimizer, the optimizer alone at stage 2 or 3",
        )
    least = [rung for rung in rungs if rung.fits is False][-1]
    needs = least.reason.rpartition("passed over: ")[2].rpartition("not expected to fit: ")[2]
    return ConfigurationError(
        f"{workload.shape.parameters:,} parameters in {workload.precision}, micro batch {workload.micro_batch} of "
        f"{workload.sequence_length} tokens, do not fit on {workload.data_parallel} ranks: {least.name} takes {needs}",
        _remedy(spec, workload),
    )


def _remedy(spec: FineTuneJobSpec, workload: Workload) -> str:
    if spec.zero.stage != "auto" and _fits(workload, Zero()):
        return "this would fit: zero.stage: auto"
    for text, changed in _changes(workload):
        if _fits(changed, spec.zero):
            return f"this would fit: {text}"
    unlimited = choose(workload.model_copy(update={"node_bytes": None}), spec.zero)
    enough = [math.ceil(rung.node_bytes / USABLE / GIB) for rung in unlimited if rung.taken and rung.fits is not False]
    return f"this would fit: topology.memory: {enough[0]}Gi" if enough else "use a smaller model or larger GPUs"


def _fits(workload: Workload, zero: Zero) -> bool:
    return any(rung.taken and rung.fits for rung in choose(workload, zero))


def _changes(workload: Workload) -> Iterator[tuple[str, Workload]]:
    """What could be changed, the mildest first; each comes on top of the ones before."""
    said = []
    if not workload.gradient_checkpointing:
        said.append("training.gradientCheckpointing: true")
        workload = workload.model_copy(update={"gradient_checkpointing": True})
        yield " and ".join(said), workload
    if workload.micro_batch > 1:
        said.append("training.perDeviceTrainBatchSize: 1")
        workload = workload.model_copy(update={"micro_batch": 1})
        yield " and ".join(said), workload
    nodes = workload.data_parallel // workload.ranks_per_node
    while (nodes := nodes * 2) <= _MOST_NODES_SUGGESTED:
        ranks = nodes * workload.ranks_per_node
        yield " and ".join([f"topology.nodes: {nodes}", *said]), workload.model_copy(update={"data_parallel": ranks})


def inference_memory(
    spec: InferenceJobSpec, shape: ModelShape, precision: Precision, batch: Batch, topology: PlannedTopology
) -> tuple[GenerationMemory, list[str]]:
    """Memory of a rank of an InferenceJob, and what to say about it.

    Raises:
        ConfigurationError: the weights alone do not fit.
    """
    options = spec.generation
    sequences = batch.micro * max(options.num_beams, options.num_return_sequences)
    longest = (spec.data.max_length + options.max_new_tokens) if spec.data.max_length else shape.context or 0
    on_cpu = topology.accelerator == "cpu"
    needed = generation_memory(shape, precision, sequences, longest, topology.ranks_per_node, on_cpu=on_cpu)
    there = topology.node_bytes if on_cpu else topology.device_bytes
    copies = topology.ranks_per_node if on_cpu else 1
    if there is None:
        return needed, []
    if needed.weights * copies > USABLE * there:
        raise ConfigurationError(
            f"the weights take {gib(needed.weights * copies)} in {precision} ({copies} x {gib(needed.weights)}), "
            f"usable are {gib(USABLE * there)} of {gib(there)}",
            "use precision bf16, fewer processesPerNode, larger GPUs or nodes with more memory",
        )
    if needed.device_bytes * copies > USABLE * there:
        takes = f"{gib(needed.device_bytes * copies)} of {gib(there)}"
        note = f"{sequences} sequences of {longest} tokens at once need {takes}"
        return needed, [f"{note}: lower perDeviceBatchSize or data.maxLength if records are that long"]
    return needed, []
