"""How much memory training takes at each rung of the ZeRO ladder. Torch-free and pure; `ladder` chooses.

P parameters, G data-parallel ranks, L parameters of the largest layer, w bytes a weight: 2 in bf16 and fp16, 4 in fp32.
What DeepSpeed 0.19 keeps (runtime/zero/stage_1_and_2.py, stage3.py), in bytes:

    weights      w P; stage 3: w (P/G + gathered layers)
    gradients    w P; from stage 2: w (P/G + L)
    optimizer    16 P: fp32 master 4, AdamW moments 8, fp32 gradients of the step 4; from stage 1: 16 P/G.
                 In fp32, stage 0 has no master and no copy of gradients, and stage 3 no master.
    activations  a layer 34 s b h bytes at 2 bytes a number, and 5 a s^2 b more with eager attention (arXiv 2205.05198);
                 with gradient checkpointing 2 s b h, and one layer in full
    mask         b s^2 (1 + w L) where rows are padded or packed: sdpa turns the mask of 1 byte into one of numbers
                 in every layer and keeps that for the backward pass; with gradient checkpointing one layer's.
                 Eager attention has one mask of numbers. Flash attention has none.
    logits       12 b s V: logits, their fp32 copy and its gradient (measured with the loss of transformers 5.23)
"""

from __future__ import annotations

from typing import Literal

from zerotune_trainer.config.base import Settings
from zerotune_trainer.sizing.shape import ModelShape

GIB = 1 << 30

PINNED = 1.5
"""Pinned memory is allocated in powers of two: half as much again on average, as DeepSpeed's estimators have it."""

RUNTIME = GIB
"""What a rank takes before it has a model: CUDA context and NCCL on a GPU, Python and libraries on the host."""

Stage = Literal[0, 1, 2, 3]
Device = Literal["none", "cpu"]


Precision = Literal["bf16", "fp16", "fp32"]


class Workload(Settings):
    """What is to be trained on what."""

    model_config = Settings.model_config | {"frozen": True}

    shape: ModelShape
    precision: Precision
    micro_batch: int
    """Rows a rank takes at once."""
    sequence_length: int
    """Tokens of a row."""
    data_parallel: int
    """Ranks that share optimizer state, gradients and parameters out among themselves."""
    ranks_per_node: int
    on_cpu: bool
    gradient_checkpointing: bool = False
    eager_attention: bool = False
    masked: bool = False
    """Whether attention gets a mask: rows are padded, or documents share a block; never with flash attention."""
    fused_loss: bool = False
    """The loss never holds all logits at once (Liger)."""
    device_bytes: int | None = None
    """Memory of one GPU; None where unknown, and on CPU."""
    node_bytes: int | None = None
    """Memory of one node's host; None where unknown."""


class Rung(Settings):
    """One way of partitioning, what it takes, and why it was taken or passed over."""

    model_config = Settings.model_config | {"frozen": True}

    name: str
    stage: Stage
    offload_optimizer: Device
    offload_param: Device
    weights: int
    """Bytes a device holds, as is each of the next six."""
    gradients: int
    optimizer: int
    activations: int
    logits: int
    buffers: int
    """Communication buckets."""
    process: int
    """The process without a model."""
    device_bytes: int
    """The sum: bytes of a GPU, or of a rank's process on CPU."""
    node_bytes: int
    """Bytes of a node's host memory, at the moment that takes most."""
    fits: bool | None = None
    """None where the memory is unknown."""
    taken: bool = False
    reason: str = ""


_LADDER: tuple[tuple[str, Stage, Device, Device], ...] = (
    ("ZeRO-0", 0, "none", "none"),
    ("ZeRO-1", 1, "none", "none"),
    ("ZeRO-2", 2, "none", "none"),
    ("ZeRO-3", 3, "none", "none"),
    ("ZeRO-2 + optimizer on CPU", 2, "cpu", "none"),
    ("ZeRO-3 + optimizer on CPU", 3, "cpu", "none"),
    ("ZeRO-3 + optimizer, weights on CPU", 3, "cpu", "cpu"),
)
"""From the fastest to the one that takes least of a device."""


def weigh(workload: Workload) -> tuple[Rung, ...]:
    """Every rung of the ladder with its bytes, none taken yet."""
    return tuple(_rung(workload, *step) for step in _LADDER)


def bytes_per_number(precision: Precision) -> int:
    """Bytes of a weight or an activation."""
    return 4 if precision == "fp32" else 2


def bucket_size(shape: ModelShape) -> int:
    """Elements of a communication bucket: hidden size squared as transformers has it, but not a host of tiny ones."""
    return min(shape.parameters, max(shape.hidden_size**2, 5_000_000))


def gathered_parameters(shape: ModelShape) -> int:
    """Parameters stage 3 may hold gathered (`stage3_max_live_parameters`): two layers, or an eighth of the model."""
    return min(10**9, max(2 * shape.largest_layer, shape.parameters // 8))


def gib(count: float) -> str:
    """Bytes for a person to read."""
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / (1 << 20):.0f} MiB"


class GenerationMemory(Settings):
    """What a rank takes that generates with a copy of the model of its own."""

    model_config = Settings.model_config | {"frozen": True}

    weights: int
    """Bytes, as are the others."""
    kv_cache: int
    """Keys and values of a batch of the longest prompts with the longest answers."""
    device_bytes: int
    node_bytes: int


def generation_memory(
    shape: ModelShape, precision: Precision, sequences: int, length: int, ranks_per_node: int, *, on_cpu: bool
) -> GenerationMemory:
    """Memory of inference: weights, and 2 x layers x kv width numbers a token.

    Args:
        shape: The model.
        precision: Number format of weights and cache.
        sequences: Sequences a rank generates at once, beams counted.
        length: Tokens of the longest of them, prompt and answer.
        ranks_per_node: Copies on a node.
        on_cpu: Whether a rank's device is the node itself.
    """
    width = bytes_per_number(precision)
    weights = width * shape.parameters
    kv_cache = 2 * width * shape.layers * shape.kv_size * sequences * length
    device = weights + kv_cache + RUNTIME
    # Weights pass through the host on their way to a GPU.
    host = device if on_cpu else weights + RUNTIME
    return GenerationMemory(weights=weights, kv_cache=kv_cache, device_bytes=device, node_bytes=host * ranks_per_node)


def _rung(workload: Workload, name: str, stage: Stage, optimizer_on: Device, param_on: Device) -> Rung:
    # On CPU a rank's device is the host: what is offloaded stays where it was.
    offloads, offloads_param = (on == "cpu" and not workload.on_cpu for on in (optimizer_on, param_on))
    weights, gradients = _weights(workload, stage, offloads_param), _gradients(workload, stage, offloads)
    optimizer = 0 if offloads else _optimizer(workload, stage)
    activations, logits, buffers = activation_bytes(workload), _logits(workload), _buffers(workload, stage)
    device = weights + gradients + optimizer + activations + logits + buffers + RUNTIME
    host = device if workload.on_cpu else RUNTIME + _offloaded(workload, stage, offloads, offloads_param)
    # Between two steps a rank on CPU has neither gradients nor activations.
    at_rest = RUNTIME + weights + optimizer if workload.on_cpu else host
    return Rung(
        name=name,
        stage=stage,
        offload_optimizer=optimizer_on,
        offload_param=param_on,
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=activations,
        logits=logits,
        buffers=buffers,
        process=RUNTIME,
        device_bytes=device,
        node_bytes=max(
            host * workload.ranks_per_node,
            _while_loading(workload, stage),
            _while_saving(workload, at_rest),
        ),
    )


def _width(workload: Workload) -> int:
    return bytes_per_number(workload.precision)


def _shared(workload: Workload, gathered: int) -> int:
    """Parameters a rank holds of a partitioned model: its share and what is gathered, never more than all."""
    parameters = workload.shape.parameters
    return min(parameters, -(-parameters // workload.data_parallel) + gathered)


def _weights(workload: Workload, stage: Stage, offloaded: bool) -> int:
    shape = workload.shape
    gathered = max(gathered_parameters(shape), shape.largest_layer)
    if offloaded:
        return _width(workload) * min(gathered, shape.parameters)
    return _width(workload) * (_shared(workload, gathered) if stage == 3 else shape.parameters)


def _gradients(workload: Workload, stage: Stage, offloaded: bool) -> int:
    shape = workload.shape
    if offloaded:
        return _width(workload) * shape.largest_layer
    return _width(workload) * (_shared(workload, shape.largest_layer) if stage >= 2 else shape.parameters)


def _optimizer(workload: Workload, stage: Stage) -> int:
    per_parameter = 16
    if workload.precision == "fp32" and stage in (0, 3):
        per_parameter = 8 if stage == 0 else 12
    share = 1 if stage == 0 else workload.data_parallel
    return -(-per_parameter * workload.shape.parameters // share)


def activation_bytes(workload: Workload) -> int:
    """Bytes that a rank's forward pass keeps for its backward pass, the logits left out."""
    shape, width = workload.shape, _width(workload)
    tokens = workload.micro_batch * workload.sequence_length
    layer = 17 * width * tokens * shape.hidden_size
    if workload.eager_attention:
        layer += 5 * width * shape.heads * tokens * workload.sequence_length // 2
    if workload.gradient_checkpointing:
        return layer + width * tokens * shape.hidden_size * shape.layers + _mask(workload, layers=1)
    return layer * shape.layers + _mask(workload, layers=shape.layers)


def _mask(workload: Workload, layers: int) -> int:
    """Bytes of the attention masks of as many layers."""
    numbers = workload.micro_batch * workload.sequence_length**2 if workload.masked else 0
    if workload.eager_attention:
        return _width(workload) * numbers
    return (1 + _width(workload) * layers) * numbers


def _logits(workload: Workload) -> int:
    tokens = workload.micro_batch * workload.sequence_length
    return 0 if workload.fused_loss else 12 * tokens * workload.shape.vocab_size


def _buffers(workload: Workload, stage: Stage) -> int:
    if workload.data_parallel == 1:
        return 0
    bucket = bucket_size(workload.shape)
    # Without ZeRO the engine reduces in buckets of 5e8; with it two reduce buckets and one to gather overlap.
    elements = min(workload.shape.parameters, 500_000_000) if stage == 0 else 3 * bucket
    return _width(workload) * elements


def _offloaded(workload: Workload, stage: Stage, optimizer: bool, param: bool) -> int:
    """Host bytes of one rank: its share of optimizer state (16 a parameter) and of the weights, pinned."""
    per_parameter = (16 if optimizer else 0) + (_width(workload) if param else 0)
    if not stage:
        return 0
    return int(PINNED * per_parameter * workload.shape.parameters / workload.data_parallel)


def _while_loading(workload: Workload, stage: Stage) -> int:
    """Host bytes while weights are read: below stage 3 every rank reads all of them, at stage 3 rank 0 alone does."""
    weights = _width(workload) * workload.shape.parameters
    readers = 1 if stage == 3 else workload.ranks_per_node
    return weights * readers + RUNTIME * workload.ranks_per_node


def _while_saving(workload: Workload, at_rest: int) -> int:
    """Host bytes while the output is written: what ranks hold between two steps, and rank 0's copy of all weights."""
    return at_rest * workload.ranks_per_node + _width(workload) * workload.shape.parameters
