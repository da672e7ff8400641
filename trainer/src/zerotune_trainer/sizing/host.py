"""Bytes of host memory that a rank with a GPU takes. Torch-free and pure.

Pinned memory is allocated in powers of two. With the optimizer on CPU a rank holds 12 P/G of fp32 weights and moments,
the fp32 gradients of every sub-group and its gradients in two bytes each; with the parameters on CPU those as well. One
copy of all weights is made where the output is written. Weights are mapped as they are stored, which ranks share; only
where they are stored in another number format does each of them hold its own copy while it loads, but for those of a
quantized base, each of which is converted on the device.
"""

from __future__ import annotations

from zerotune_trainer.sizing.workload import Workload

BYTES_OF_DTYPE = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
"""Bytes of a stored weight by the `dtype` of a config.json."""


def host_bytes(workload: Workload, optimizer: bool, param: bool) -> int:
    """Bytes of one rank, its process left out.

    Args:
        workload: What is trained.
        optimizer: Whether optimizer state is offloaded.
        param: Whether parameters are.
    """
    offloaded = _optimizer(workload) if optimizer else 0
    if param:
        offloaded += _pinned(workload.width * workload.share)
    return max(offloaded, _while_loading(workload))


def saving_bytes(workload: Workload) -> int:
    """Bytes on the node that writes the output: a copy of the weights that were trained, and the merged model."""
    merged = workload.width * workload.parameters if workload.merges else 0
    return merged + workload.width * workload.trained


def _optimizer(workload: Workload) -> int:
    share = workload.trained_share
    group = max(1, min(share, workload.settings.sub_group_size))
    groups, rest = divmod(share, group)
    gradients = groups * _pinned(4 * group) + _pinned(4 * rest)
    return (4 + workload.settings.optimizer_bytes) * share + gradients + _pinned(workload.width * share)


def _while_loading(workload: Workload) -> int:
    stored = BYTES_OF_DTYPE.get(workload.shape.stored_dtype or "", workload.width)
    return 0 if workload.base_quantization or stored == workload.width else workload.width * workload.shape.parameters


def _pinned(count: int) -> int:
    """The power of two that holds as many bytes."""
    return 1 << (count - 1).bit_length() if count else 0
