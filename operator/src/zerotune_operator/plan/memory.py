"""What a job needs of memory, and whether it is there."""

from __future__ import annotations

from zerotune_operator.api.jobs import FineTuneJobSpec
from zerotune_operator.plan.batch import Batch
from zerotune_operator.plan.engine_settings import engine_settings
from zerotune_operator.plan.memory_remedy import memory_remedy
from zerotune_operator.plan.topology import PlannedTopology
from zerotune_trainer.config.methods import METHODS, packing_of
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.config.text_evaluation import TextEvaluation
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.adapter_parameters import adapter_parameters
from zerotune_trainer.sizing.candidates import drawback
from zerotune_trainer.sizing.memory import ZeroCandidate
from zerotune_trainer.sizing.workload import GeneratedTexts, Precision, Workload


def training_workload(
    spec: FineTuneJobSpec, shape: ModelShape, precision: Precision, batch: Batch, topology: PlannedTopology
) -> Workload:
    """What a FineTuneJob trains, as its memory is estimated."""
    on_cpu, traits = topology.accelerator == "cpu", METHODS[spec.method]
    return Workload(
        shape=shape,
        precision=precision,
        micro_batch=batch.micro,
        sequence_length=spec.data.max_length,
        sequences_per_row=traits.sequences_per_row,
        tiled_logits=_is_tiled(spec),
        data_parallel=batch.data_parallel,
        ranks_per_node=topology.ranks_per_node,
        on_cpu=on_cpu,
        settings=engine_settings(spec, shape, on_cpu=on_cpu),
        evaluation_batch=_rows_evaluated_at_once(spec, batch),
        generated=_generated(spec.evaluation.generation, batch),
        gradient_checkpointing=spec.training.gradient_checkpointing,
        attention=spec.model.attn_implementation,
        masked=_is_masked(spec),
        liger_kernel=spec.training.use_liger_kernel,
        adapter_parameters=adapter_parameters(shape, spec.adapter) if spec.adapter else 0,
        base_quantization=spec.adapter.base_quantization if spec.adapter else None,
        merges=spec.adapter is not None and spec.adapter.merge,
        device_bytes=topology.device_bytes,
        node_bytes=topology.node_bytes,
    )


def _rows_evaluated_at_once(spec: FineTuneJobSpec, batch: Batch) -> int:
    """0 where nothing is evaluated."""
    has_records = spec.data.validation is not None or spec.data.validation_fraction > 0
    if spec.evaluation.eval_strategy == "no" or not has_records:
        return 0
    return spec.training.per_device_eval_batch_size or batch.micro


def _generated(texts: TextEvaluation | None, batch: Batch) -> GeneratedTexts | None:
    """The share of a rank."""
    if texts is None:
        return None
    prompts = -(-texts.max_samples // batch.data_parallel)
    return GeneratedTexts(prompts=prompts, beams=texts.num_beams, tokens=texts.max_new_tokens)


def _is_tiled(spec: FineTuneJobSpec) -> bool:
    """Whether never all logits of a batch are there at once. transformers smooths labels over all of them, and a loss
    of the user's gets them; the losses of preferences have a smoothing of their own."""
    if METHODS[spec.method].preference is not None:
        return True
    own_loss = spec.plugin is not None and spec.plugin.compute_loss_func is not None
    return not own_loss and not spec.training.arguments.get("label_smoothing_factor")


def _is_masked(spec: FineTuneJobSpec) -> bool:
    """Whether attention gets a mask. `auto` may come to flash attention, which has none, but need not."""
    return packing_of(spec.method, spec.data) != "wrapped" and spec.model.attn_implementation != "flash_attention_2"


def rejection(
    spec: FineTuneJobSpec, workload: Workload, candidates: tuple[ZeroCandidate, ...]
) -> ConfigurationError | None:
    """Why none of the candidates can run, or the one asked for cannot possibly; the hint says what would."""
    taken = next((candidate for candidate in candidates if candidate.taken), None)
    if taken is not None and not _is_impossible(taken, workload):
        return None
    allowed = [candidate for candidate in candidates if candidate.allowed]
    if not allowed:
        zero = spec.zero
        return ConfigurationError(
            f"zero.stage {zero.stage}, offloadOptimizer {zero.offload_optimizer} and offloadParam {zero.offload_param} "
            f"do not go together",
            "parameters are offloaded at stage 3 together with the optimizer, the optimizer alone at stage 2 or 3",
        )
    # The last of those that take as little.
    least = min(reversed(allowed), key=lambda candidate: _excess(candidate, workload))
    return ConfigurationError(
        f"{workload.shape.parameters:,} parameters in {workload.precision}, micro batch {workload.micro_batch} of "
        f"{workload.sequence_length} tokens, do not fit on "
        f"{counted(workload.data_parallel, 'rank')}: {least.name} takes {drawback(least, workload)}",
        memory_remedy(workload, spec.zero),
    )


def _excess(candidate: ZeroCandidate, workload: Workload) -> float:
    """What a candidate takes as a share of the memory that there is: of the GPU's or the node's, the larger."""
    device = None if workload.on_cpu else workload.device_bytes
    pairs = ((candidate.device_bytes, device), (candidate.node_bytes, workload.node_bytes))
    return max((needed / there for needed, there in pairs if there), default=0.0)


def _is_impossible(candidate: ZeroCandidate, workload: Workload) -> bool:
    """Whether weights, gradients and optimizer state alone, which are exact, exceed the whole memory."""
    if workload.on_cpu:
        return workload.node_bytes is not None and candidate.states * workload.ranks_per_node > workload.node_bytes
    return workload.device_bytes is not None and candidate.states > workload.device_bytes
