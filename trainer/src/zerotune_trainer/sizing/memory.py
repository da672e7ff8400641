"""How much memory training takes with each ZeRO candidate. Torch-free and pure; `candidates` chooses one.

P parameters, G data-parallel ranks, w bytes a weight: 2 in bf16 and fp16, 4 in fp32. Measured with DeepSpeed 0.19
(runtime/zero/stage_1_and_2.py, stage3.py). A device holds, in bytes,

    weights      w P; at stage 3 w P/G
    optimizer    4 P of fp32 weights and 8 P of AdamW's moments; from stage 1 a G-th. In fp32, stages 0 and 3 need no
                 second copy of the weights.

and on top of them the larger of two peaks, which never coincide:

    backward     gradients, w P, from stage 2 w P/G; activations and logits; buffers, and the gathered parameters of
                 stage 3 among them
    step         fp32 gradients of what is updated at once, and what the update makes on its way. Stage 0: 6 P, and 10 P
                 where the update is not in place. Stages 1 and 2: 8 P/G, and 12 P/G. Stage 3: 2 P/G and 6 bytes, or 8,
                 for each parameter of a sub-group.

An evaluation keeps no gradients: it is compared with them.

Where an adapter is trained, P is the model's parameters and the adapter's for the weights, and the adapter's alone for
everything else: what is frozen has neither gradient nor optimizer state. Activations are those of the model: gradients
pass through its frozen layers all the same, and an adapter of every linear layer keeps its inputs. Of a quantized base
the linear layers take what `quantized_base` says, and what computes with one of them is w bytes a weight, for as long.
"""

from __future__ import annotations

from typing import Literal

from zerotune_trainer.config.base import Settings
from zerotune_trainer.sizing.activations import activations, evaluation_bytes
from zerotune_trainer.sizing.host import host_bytes, saving_bytes
from zerotune_trainer.sizing.quantized_base import largest_matrix, saved_bytes
from zerotune_trainer.sizing.workload import GIB, Workload

RUNTIME = GIB
"""What a rank takes before it has a model: CUDA context and NCCL on a GPU, Python and libraries on the host."""

Stage = Literal[0, 1, 2, 3]
Device = Literal["none", "cpu"]
Verdict = Literal["fits", "tight", "does not fit", "unknown"]


class ZeroCandidate(Settings):
    """One way of partitioning, what it takes, and why it was taken or not."""

    model_config = Settings.model_config | {"frozen": True}

    name: str
    stage: Stage
    offload_optimizer: Device
    offload_param: Device
    weights: int
    """Bytes a device holds, as is each of the next seven."""
    gradients: int
    optimizer: int
    activations: int
    logits: int
    buffers: int
    """Communication buckets, and parameters that are whole for as long as they are computed with: gathered at stage 3,
    dequantized of a quantized base."""
    step: int
    """What the optimizer step takes beside weights and optimizer state, when activations and buffers are freed."""
    process: int
    """The process without a model."""
    peak: Literal["backward", "step", "evaluation"]
    """What takes most."""
    device_bytes: int
    """Bytes of a GPU, or of a rank's process on CPU, at that moment."""
    host_bytes: int
    """Bytes of host memory that a rank takes."""
    saving: int
    """Bytes of host memory that a copy of all weights takes where the output is written."""
    node_bytes: int
    """Bytes of a node's host memory, at the moment that takes most."""
    verdict: Verdict = "unknown"
    allowed: bool = True
    """Whether the spec leaves room for it."""
    taken: bool = False
    reason: str = ""

    @property
    def states(self) -> int:
        """Bytes of weights, gradients and optimizer state, which are exact."""
        return self.weights + self.gradients + self.optimizer


_CANDIDATES: tuple[tuple[str, Stage, Device, Device], ...] = (
    ("ZeRO-0", 0, "none", "none"),
    ("ZeRO-1", 1, "none", "none"),
    ("ZeRO-2", 2, "none", "none"),
    ("ZeRO-3", 3, "none", "none"),
    ("ZeRO-2 + optimizer on CPU", 2, "cpu", "none"),
    ("ZeRO-3 + optimizer on CPU", 3, "cpu", "none"),
    ("ZeRO-3 + optimizer, weights on CPU", 3, "cpu", "cpu"),
)
"""From the fastest to the one that takes least of a device."""


def estimate_memory(workload: Workload) -> tuple[ZeroCandidate, ...]:
    """Every candidate with its bytes, none taken yet."""
    return tuple(_estimate(workload, *candidate) for candidate in _CANDIDATES)


def _estimate(workload: Workload, name: str, stage: Stage, optimizer_on: Device, param_on: Device) -> ZeroCandidate:
    # On CPU a rank's device is the host: what is offloaded stays where it was.
    offloads, offloads_param = (on == "cpu" and not workload.on_cpu for on in (optimizer_on, param_on))
    weights = 0 if offloads_param else _weights(workload, stage)
    optimizer = 0 if offloads else _optimizer(workload, stage)
    gradients, step = (0, 0) if offloads else (_gradients(workload, stage), _step(workload, stage))
    whole = _gathered(workload, stage) + _dequantized(workload)
    activation_bytes, buffers = activations(workload), _buffers(workload, stage, offloads) + whole
    peaks: dict[Literal["backward", "step", "evaluation"], int] = {
        "backward": gradients + activation_bytes.layers + activation_bytes.logits + buffers,
        "step": step,
        "evaluation": evaluation_bytes(workload) + whole,
    }
    peak = max(peaks, key=peaks.__getitem__)
    at_rest = weights + optimizer + RUNTIME
    host = at_rest + peaks[peak] if workload.on_cpu else RUNTIME + host_bytes(workload, offloads, offloads_param)
    resting = at_rest if workload.on_cpu else host
    return ZeroCandidate(
        name=name,
        stage=stage,
        offload_optimizer=optimizer_on,
        offload_param=param_on,
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=activation_bytes.layers,
        logits=activation_bytes.logits,
        buffers=buffers,
        step=step,
        process=RUNTIME,
        peak=peak,
        device_bytes=at_rest + peaks[peak],
        host_bytes=host,
        saving=saving_bytes(workload),
        node_bytes=max(host * workload.ranks_per_node, resting * workload.ranks_per_node + saving_bytes(workload)),
    )


def _weights(workload: Workload, stage: Stage) -> int:
    saved = saved_bytes(workload.shape, workload.base_quantization, workload.width)
    return workload.width * (workload.share if stage == 3 else workload.parameters) - saved


def _gradients(workload: Workload, stage: Stage) -> int:
    width = workload.settings.gradient_bytes or workload.width
    return width * (workload.trained_share if stage >= 2 else workload.trained)


def _optimizer(workload: Workload, stage: Stage) -> int:
    master = 0 if workload.precision == "fp32" and stage in (0, 3) else 4
    parameters = workload.trained_share if stage else workload.trained
    return (master + workload.settings.optimizer_bytes) * parameters


def _step(workload: Workload, stage: Stage) -> int:
    in_place = workload.settings.fused_optimizer
    if stage == 0:
        return (6 if in_place else 10) * workload.trained
    if stage < 3:
        return (8 if in_place else 12) * workload.trained_share
    at_once = min(workload.trained_share, workload.settings.sub_group_size + _largest_share(workload))
    return 2 * workload.trained_share + (6 if in_place else 8) * at_once


def _largest_share(workload: Workload) -> int:
    """A sub-group ends with the parameter that fills it: its share of the largest one, at most the embedding."""
    return -(-workload.shape.vocab_size * workload.shape.hidden_size // workload.data_parallel)


def _gathered(workload: Workload, stage: Stage) -> int:
    """Bytes of the parameters that stage 3 holds gathered. One rank gathers nothing."""
    if stage < 3 or workload.data_parallel == 1:
        return 0
    live = max(workload.settings.max_live_parameters, workload.shape.largest_layer)
    return workload.width * min(live + workload.settings.prefetch_bucket_size, workload.shape.parameters)


def _dequantized(workload: Workload) -> int:
    """Bytes of the weights that a layer of a quantized base computes with."""
    return workload.width * largest_matrix(workload.shape) if workload.base_quantization else 0


def _buffers(workload: Workload, stage: Stage, offloads: bool) -> int:
    settings = workload.settings
    # Gradients on their way to the host, a layer's at a time.
    leaving = workload.width * min(workload.shape.largest_layer, workload.trained) if offloads else 0
    if workload.data_parallel == 1:
        return leaving
    if stage == 0:
        # Without ZeRO the engine reduces in buckets of 5e8.
        return workload.width * min(workload.trained, 500_000_000)
    reduced = settings.reduce_bucket_size * (2 if settings.overlap_comm else 1)
    return leaving + workload.width * min(reduced, 2 * workload.trained)
