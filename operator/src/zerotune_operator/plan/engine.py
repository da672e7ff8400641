"""Which engine generates for an InferenceJob, by the memory that each takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from zerotune_operator.api.jobs import InferenceJobSpec
from zerotune_operator.plan.batch import Batch
from zerotune_operator.plan.topology import PlannedTopology
from zerotune_trainer.config.generation import Engine, Generation
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.generation import (
    Generating,
    GenerationMemory,
    OffloadParam,
    memory_of_copies,
    memory_of_parts,
    memory_of_shards,
    with_room_filled,
)
from zerotune_trainer.sizing.tensor_parallel import ARCHITECTURES, check_tensor_parallel, divides
from zerotune_trainer.sizing.workload import GIB, Precision, gib

_USABLE = 0.9
"""Share of a memory that inference is planned with: its weights are exact, its cache is known."""
_PLACES: dict[OffloadParam, str] = {"none": "on their devices", "cpu": "in host memory", "nvme": "on the nodes' disks"}


@dataclass(frozen=True)
class PlannedEngine:
    """An engine, and what it takes."""

    name: Engine
    memory: GenerationMemory
    offload_param: OffloadParam = "none"
    tensor_parallel: int = 1
    """Ranks over which each layer is split."""
    notes: tuple[str, ...] = ()
    """What the user should know, a sentence each."""


def plan_engine(
    spec: InferenceJobSpec, shape: ModelShape, precision: Precision, batch: Batch, topology: PlannedTopology
) -> PlannedEngine:
    """The engine that is asked for; for `auto` the first whose weights fit: a copy on every rank, which is the fastest,
    then layers split over as few ranks of a node as will do, then parts of one model on all ranks, then parts in host
    memory.

    Raises:
        ConfigurationError: the weights alone do not fit, or the engine cannot run this model.
    """
    options = spec.generation
    new_tokens = options.max_new_tokens if spec.task == "generate" else 0
    beside = max(options.num_beams, options.num_return_sequences)
    what = Generating(
        shape=shape,
        precision=precision,
        # vLLM begins with as many as its cache has room for.
        sequences=1 if spec.engine == "vllm" and topology.accelerator == "cuda" else batch.micro * beside,
        length=(spec.data.max_length + new_tokens) if spec.data.max_length else shape.context or 0,
        ranks=topology.world_size,
        ranks_per_node=topology.ranks_per_node,
        on_cpu=topology.accelerator == "cpu",
    )
    if spec.engine != "vllm" and (spec.engine in ("zero", "deepspeed") or spec.parallelism.tensor > 1):
        check_tensor_parallel(shape, spec.parallelism.tensor)
    candidates = [_vllm(spec, what)] if spec.engine == "vllm" else list(_candidates(spec, what))
    fitting = next((each for each in candidates if not _excess(each, what, topology)), None)
    if fitting is None:
        raise _rejection(candidates[-1], what, topology)
    notes = [*_notes(fitting, candidates[0], what, topology), *_note_on_room(fitting, spec)]
    return replace(fitting, memory=_filled(fitting, spec, what, topology), notes=tuple(notes))


def check_options(spec: InferenceJobSpec) -> None:
    """See that a spec asks for nothing that its task or its engine does not do, whatever the model.

    Raises:
        ConfigurationError: it does.
    """
    if spec.task != "generate" and spec.generation != Generation():
        raise ConfigurationError(
            f"task: {spec.task} generates nothing, and generation has options",
            "leave generation out, or set task: generate",
        )
    if len(set(spec.labels)) < len(spec.labels):
        raise ConfigurationError("labels: one stands there twice", "name each label once")
    if spec.kernel_inject:
        raise ConfigurationError(
            "kernelInject: DeepSpeed's inference kernels stand in for layers of transformers 4, and do not fill the "
            "cache of keys and values that transformers 5 gives them",
            "leave kernelInject out: engine deepspeed splits the layers without them",
        )


def _candidates(spec: InferenceJobSpec, what: Generating) -> Iterator[PlannedEngine]:
    asked_size = spec.parallelism.tensor
    if spec.engine == "transformers" or (spec.engine == "auto" and asked_size == 1):
        yield PlannedEngine("transformers", memory_of_copies(what))
    if spec.engine in ("deepspeed", "auto"):
        sizes = [asked_size] if asked_size > 1 else _tensor_sizes(what, smallest=1 if spec.engine == "deepspeed" else 2)
        for size in sizes:
            yield PlannedEngine("deepspeed", memory_of_shards(what, size), tensor_parallel=size)
    is_alone = what.ranks == 1 and what.on_cpu
    if spec.engine == "zero" or (spec.engine == "auto" and asked_size == 1 and not is_alone):
        asked = spec.zero.offload_param
        if asked in ("auto", "none"):
            yield PlannedEngine("zero", memory_of_parts(what, "none"))
        if asked == "cpu" or (asked == "auto" and not what.on_cpu):
            yield PlannedEngine("zero", memory_of_parts(what, "cpu"), "cpu")
        if asked == "nvme":
            yield PlannedEngine("zero", memory_of_parts(what, "nvme"), "nvme")


def _vllm(spec: InferenceJobSpec, what: Generating) -> PlannedEngine:
    """Engine `vllm`, which runs architectures of its own: a node's ranks at most split a model, by its heads.

    Raises:
        ConfigurationError: the heads or the ranks of a node do not divide by `parallelism.tensor`.
    """
    size = spec.parallelism.tensor
    if not divides(what.shape, size) or what.ranks_per_node % size:
        raise ConfigurationError(
            f"parallelism.tensor {size} does not divide both the model's heads and the "
            f"{counted(what.ranks_per_node, 'rank')} of a node",
            "set it to a divisor of both, or leave it out",
        )
    return PlannedEngine("vllm", memory_of_shards(what, size), tensor_parallel=size)


def _filled(
    engine: PlannedEngine, spec: InferenceJobSpec, what: Generating, topology: PlannedTopology
) -> GenerationMemory:
    """The memory of the engine, with weights that lie on disk otherwise in what the others leave of the job's. Without
    `topology.memory` nobody has said how much of a node is the job's."""
    if engine.offload_param != "nvme" or spec.topology.memory is None or topology.node_bytes is None:
        return engine.memory
    return with_room_filled(engine.memory, what, int(_USABLE * topology.node_bytes) - engine.memory.node_bytes)


def _note_on_room(engine: PlannedEngine, spec: InferenceJobSpec) -> Iterator[str]:
    if engine.offload_param == "nvme" and spec.topology.memory is None:
        yield "topology.memory is not set: with it, weights that memory has room for are not read from the disk"


def _tensor_sizes(what: Generating, smallest: int) -> list[int]:
    """Over how many ranks of a node the layers of the model can be split, from `smallest` on."""
    most = what.ranks_per_node if what.shape.architecture in ARCHITECTURES else 1
    sizes = range(smallest, most + 1)
    return [size for size in sizes if what.ranks_per_node % size == 0 and divides(what.shape, size)]


def _excess(engine: PlannedEngine, what: Generating, topology: PlannedTopology) -> tuple[int, int] | None:
    """Bytes of weights that do not fit where they are kept or used, and the memory that there is; None: they fit."""
    memory, ranks = engine.memory, what.ranks_per_node
    offloads = engine.offload_param != "none"
    kept = memory.buffers if engine.offload_param == "nvme" else memory.weights
    on_node = kept + memory.gathered if what.on_cpu else kept
    places = [(on_node * ranks, topology.node_bytes)] if what.on_cpu or offloads else []
    if not what.on_cpu:
        places.append(((0 if offloads else memory.weights) + memory.gathered, topology.device_bytes))
    return next(((needed, there) for needed, there in places if there and needed > _USABLE * there), None)


def _notes(engine: PlannedEngine, first: PlannedEngine, what: Generating, topology: PlannedTopology) -> Iterator[str]:
    if engine.name != first.name and (excess := _excess(first, what, topology)):
        yield (
            f"engine {engine.name} is taken: the weights take {gib(excess[0])} with engine {first.name}, usable are "
            f"{gib(_USABLE * excess[1])} of {gib(excess[1])}; {_way(engine, what)}"
        )
    if engine.tensor_parallel > 1:
        size = engine.tensor_parallel
        yield f"{size} ranks generate together, for {size} x perDeviceBatchSize records at once"
    there = topology.node_bytes if what.on_cpu else topology.device_bytes
    copies = what.ranks_per_node if what.on_cpu else 1
    needed = engine.memory.device_bytes * copies
    if there is not None and needed > _USABLE * there:
        yield (
            f"{counted(what.sequences, 'sequence')} of {counted(what.length, 'token')} at once need "
            f"{gib(needed)} of {gib(there)}: lower perDeviceBatchSize or data.maxLength if records are that long"
        )


def _way(engine: PlannedEngine, what: Generating) -> str:
    if engine.name == "deepspeed":
        return f"each layer is split over {engine.tensor_parallel} ranks of a node"
    place = _PLACES[engine.offload_param]
    return f"{what.ranks} ranks hold parts of one model {place}"


def _rejection(engine: PlannedEngine, what: Generating, topology: PlannedTopology) -> ConfigurationError:
    """Why the last of the engines does not do either."""
    excess = _excess(engine, what, topology)
    assert excess is not None
    needed, there = excess
    offload = "" if engine.offload_param == "none" else f" and offloadParam: {engine.offload_param}"
    how = f"with engine {engine.name}{offload}"
    of_them = "buffers for the weights" if engine.offload_param == "nvme" else "the weights"
    return ConfigurationError(
        f"{of_them} take {gib(needed)} in {what.precision} {how}, usable are {gib(_USABLE * there)} of {gib(there)}",
        _remedy(engine, what, needed, there),
    )


def _remedy(engine: PlannedEngine, what: Generating, needed: int, there: int) -> str:
    """What to change where the weights of an InferenceJob do not fit."""
    remedies = []
    if what.on_cpu or engine.offload_param != "none":
        total = engine.memory.device_bytes * what.ranks_per_node if what.on_cpu else needed
        remedies.append(f"raise topology.memory to {math.ceil(total / _USABLE / GIB)}Gi")
    else:
        remedies.append("use larger GPUs")
    fewer = int(_USABLE * there // engine.memory.weights)
    if engine.name == "transformers" and what.on_cpu and 0 < fewer < what.ranks_per_node:
        remedies.append(f"lower topology.processesPerNode to {fewer}")
    if engine.name in ("transformers", "deepspeed") and (what.ranks > 1 or not what.on_cpu):
        remedies.append("use engine: zero, which partitions the weights")
    if engine.name == "zero":
        remedies.append("use more nodes")
    if engine.offload_param != "nvme":
        remedies.append("keep the weights on disk with engine: zero and zero.offloadParam: nvme, which is far slower")
    if what.precision == "fp32" and needed // 2 <= _USABLE * there:
        remedies.append("set precision: bf16")
    return ", or ".join([*remedies, "use a smaller model"])
