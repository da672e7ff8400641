"""What another model takes that judges records before training: its weights, and the forward pass of a batch. Pure."""

from __future__ import annotations

from typing import Literal

from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.sizing.activations import evaluation_bytes
from zerotune_trainer.sizing.generation import Generating, GenerationMemory, memory_of_copies, memory_of_parts
from zerotune_trainer.sizing.workload import Workload


def reference_memory(shape: ModelShape, workload: Workload, stage: Literal[0, 1, 2, 3]) -> GenerationMemory:
    """Memory of a rank while the reference is there: a copy of it, and at stage 3 a part of it. It is freed before the
    model that is trained is loaded.

    Args:
        shape: The reference.
        workload: What is trained afterwards; rows of an evaluation are judged at once.
        stage: The ZeRO stage of training.
    """
    judging = Generating(
        shape, workload.precision, 0, 0, workload.data_parallel, workload.ranks_per_node, workload.on_cpu
    )
    weights = memory_of_parts(judging, "none") if stage == 3 else memory_of_copies(judging)
    rows = workload.evaluation_batch or workload.micro_batch
    # Two sequences a row: of a completion that was judged, another one is compared with.
    judged = workload.model_copy(update={"shape": shape, "evaluation_batch": rows, "sequences_per_row": 2})
    at_work = evaluation_bytes(judged)
    host = at_work * workload.ranks_per_node if workload.on_cpu else 0
    return weights.model_copy(
        update={"device_bytes": weights.device_bytes + at_work, "node_bytes": weights.node_bytes + host}
    )
