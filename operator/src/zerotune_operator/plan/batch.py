"""The batch: global = micro x accumulation x data-parallel ranks; any part that is left out follows from the others."""

from __future__ import annotations

from zerotune_operator.plan.topology import neighbours
from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.generation import Engine
from zerotune_trainer.config.training import Training
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ConfigurationError

DEFAULT_RECORDS = 8
"""Records a rank generates for at once where an InferenceJob does not say."""
_VLLM_RECORDS = 256
"""The same of engine vllm on GPUs, which begins with fewer where its cache has no room: `max_num_seqs` of vLLM."""


class Batch(Settings):
    """Rows of one optimizer step, or records generated for at once."""

    model_config = Settings.model_config | {"frozen": True}

    global_size: int
    micro: int
    """Rows or records a rank takes at once."""
    accumulation: int
    """Micro batches a rank sums up before an optimizer step; 1 in inference."""
    data_parallel: int


def training_batch(training: Training, data_parallel: int) -> Batch:
    """The batch of an optimizer step. As in DeepSpeed, accumulation is 1 where only the global size is given.

    Raises:
        ConfigurationError: the sizes contradict each other; the hint names the nearest valid ones.
    """
    wanted, micro, accumulation = (
        training.global_batch_size,
        training.per_device_train_batch_size,
        training.gradient_accumulation_steps,
    )
    unit = (micro or 1) * (accumulation or 1) * data_parallel
    complete = micro is not None and accumulation is not None
    if wanted is not None and (wanted != unit if complete else wanted % unit):
        raise _contradiction(wanted, micro, accumulation, data_parallel)
    rest = 1 if wanted is None else wanted // unit
    if micro is None:
        micro, accumulation = rest, accumulation or 1
    else:
        accumulation = accumulation or rest
    return Batch(
        global_size=micro * accumulation * data_parallel,
        micro=micro,
        accumulation=accumulation,
        data_parallel=data_parallel,
    )


def inference_batch(
    global_size: int | None, per_device: int | None, ranks: int, default: int = DEFAULT_RECORDS
) -> Batch:
    """The records that all ranks generate for at once, and each rank's share.

    Args:
        global_size: `globalBatchSize`.
        per_device: `perDeviceBatchSize`.
        ranks: How many there are.
        default: Each rank's share where neither is given.

    Raises:
        ConfigurationError: the global size is not a share for every rank; the hint names the nearest valid ones.
    """
    unit = (per_device or 1) * ranks
    if global_size is not None and (global_size != unit if per_device else global_size % unit):
        share = (
            f"perDeviceBatchSize {per_device} x {counted(ranks, 'rank')} = {unit}"
            if per_device
            else f"a multiple of {counted(ranks, 'rank')}"
        )
        valid = [unit] if per_device else neighbours(global_size, unit)
        raise ConfigurationError(f"globalBatchSize {global_size} is not {share}", _hint("globalBatchSize", valid))
    if per_device is None:
        per_device = default if global_size is None else global_size // ranks
    return Batch(global_size=per_device * ranks, micro=per_device, accumulation=1, data_parallel=ranks)


def default_records(engine: Engine, accelerator: str) -> int:
    """Records that a rank generates for at once where an InferenceJob does not say."""
    return _VLLM_RECORDS if engine == "vllm" and accelerator == "cuda" else DEFAULT_RECORDS


def _contradiction(wanted: int, micro: int | None, accumulation: int | None, data_parallel: int) -> ConfigurationError:
    parts = [
        "micro batch" if micro is None else f"perDeviceTrainBatchSize {micro}",
        "accumulation" if accumulation is None else f"gradientAccumulationSteps {accumulation}",
        counted(data_parallel, "data-parallel rank"),
    ]
    unit = (micro or 1) * (accumulation or 1) * data_parallel
    complete = micro is not None and accumulation is not None
    return ConfigurationError(
        f"training.globalBatchSize {wanted} is not {' x '.join(parts)}",
        _hint("globalBatchSize", [unit] if complete else neighbours(wanted, unit)),
    )


def _hint(field: str, valid: list[int]) -> str:
    return f"set {field} to {' or '.join(map(str, valid))}, the nearest that fits, or leave it out"
