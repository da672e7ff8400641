"""Whether the memory of a job holds the model that `preference.referenceModel` names. Pure."""

from __future__ import annotations

from zerotune_operator.api.jobs import FineTuneJobSpec
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.generation import GenerationMemory
from zerotune_trainer.sizing.memory import ZeroCandidate
from zerotune_trainer.sizing.reference import reference_memory
from zerotune_trainer.sizing.workload import Workload, gib


def reference_note(
    spec: FineTuneJobSpec, reference: ModelShape | None, workload: Workload, candidate: ZeroCandidate
) -> list[str]:
    """What the plan says of the reference; nothing where the job names none.

    Args:
        spec: The job.
        reference: Shape of the model that it names, where the backend knows it.
        workload: What is trained.
        candidate: How.

    Raises:
        ConfigurationError: the reference does not fit.
    """
    if spec.preference is None or spec.preference.reference_model is None:
        return []
    uri = spec.preference.reference_model.uri
    if reference is None:
        return [f"preference.referenceModel {uri}: what it takes before training is not known here, and not counted"]
    memory = reference_memory(reference, workload, candidate.stage)
    _check(uri, memory, workload, candidate)
    device = "a rank" if workload.on_cpu else "a GPU"
    return [f"preference.referenceModel {uri}: before training it takes {gib(memory.device_bytes)} of {device}"]


def _check(uri: str, memory: GenerationMemory, workload: Workload, candidate: ZeroCandidate) -> None:
    pairs = [(memory.node_bytes, workload.node_bytes, "node")]
    if not workload.on_cpu:
        pairs.insert(0, (memory.device_bytes, workload.device_bytes, "GPU"))
    for needed, there, what in pairs:
        if there is not None and needed > there:
            partitioned = "" if candidate.stage == 3 else "zero.stage: 3, which partitions it, or "
            raise ConfigurationError(
                f"preference.referenceModel {uri} takes {gib(needed)} of a {what} before training, which has "
                f"{gib(there)}",
                f"use {partitioned}a smaller reference, a lower training.perDeviceEvalBatchSize, or more memory",
            )
