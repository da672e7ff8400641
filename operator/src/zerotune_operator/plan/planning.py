"""(spec, model's shape, runtime layout) -> Plan. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zerotune_operator.api.jobs import FineTuneJob, FineTuneJobSpec, InferenceJob, Job
from zerotune_operator.api.origins import Origin
from zerotune_operator.plan.adapter import adapter_notes, check_adapter
from zerotune_operator.plan.arguments import check_arguments
from zerotune_operator.plan.batch import default_records, inference_batch, training_batch
from zerotune_operator.plan.config import infer_config, resolve_training, train_config, with_origins
from zerotune_operator.plan.deepspeed import deepspeed_settings
from zerotune_operator.plan.engine import check_options, plan_engine
from zerotune_operator.plan.folders import check_folders
from zerotune_operator.plan.instance_types import plan_instance_types
from zerotune_operator.plan.layout import RuntimeLayout
from zerotune_operator.plan.memory import rejection, training_workload
from zerotune_operator.plan.overrides import SCHEDULES, check_precision, merge_deepspeed
from zerotune_operator.plan.plan import DoesNotFitError, Plan
from zerotune_operator.plan.precision import resolve_precision
from zerotune_operator.plan.reference import reference_note
from zerotune_operator.plan.templates import check_templates
from zerotune_operator.plan.topology import PlannedTopology, plan_hostfile, plan_topology
from zerotune_trainer.config import JobIdentity
from zerotune_trainer.config.data import Data
from zerotune_trainer.config.generation import InferenceData, check_end_tokens, check_tokens, longest_prompt
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.candidates import choose_candidate
from zerotune_trainer.sizing.memory import ZeroCandidate
from zerotune_trainer.sizing.position_ids import mixes_documents
from zerotune_trainer.sizing.quantization import check_generates, check_trainable
from zerotune_trainer.sizing.workload import Workload, gib


def plan_job(
    job: Job,
    shape: ModelShape,
    layout: RuntimeLayout,
    identity: JobIdentity,
    reference: ModelShape | None = None,
    origins: Sequence[Origin] = (),
) -> Plan:
    """Settle everything about a job.

    Args:
        job: What is asked for; its own rules were checked.
        shape: The model, from its `config.json`.
        layout: Where it runs.
        identity: Which job and attempt this is.
        reference: The model that `preference.referenceModel` names, where the backend knows it.
        origins: The jobs that it starts from, whose outputs stand in `job` and `layout` by now.

    Raises:
        ConfigurationError: what is asked for contradicts itself or does not fit; the hint says what would.
    """
    check_templates(job)
    check_folders(job, layout)

    def plan_one(job: Job, layout: RuntimeLayout) -> Plan:
        if isinstance(job, FineTuneJob):
            plan = _plan_training(job, shape, layout, identity, reference)
        else:
            plan = _plan_inference(job, shape, layout, identity)
        return replace(plan, config=with_origins(plan.config, origins))

    return plan_instance_types(job, layout, plan_one) if layout.alternatives else plan_one(job, layout)


def _check_length(shape: ModelShape, length: int | None) -> None:
    if shape.learned_positions and length and shape.context and length > shape.context:
        raise ConfigurationError(
            f"data.maxLength {length} exceeds the {shape.context} positions that the {shape.architecture} model has",
            f"set data.maxLength to {shape.context} or less, or use a model with a longer context",
        )


def _check_padding(data: Data, shape: ModelShape) -> None:
    """See that rows which are padded to a length, whatever they hold, have a position for every token."""
    multiple = data.pad_to_multiple_of or 1
    length = -(-data.max_length // multiple) * multiple
    if data.padding == "max_length" and shape.learned_positions and shape.context and length > shape.context:
        raise ConfigurationError(
            f"data.padding: max_length pads rows to {length} tokens, a multiple of data.padToMultipleOf {multiple}, "
            f"and the {shape.architecture} model has {shape.context} positions",
            f"lower data.maxLength, or let data.padToMultipleOf divide {shape.context}",
        )


def _check_template_ids(spec: FineTuneJobSpec, shape: ModelShape) -> None:
    """See that the model has the tokens that mark answers. How many it has once it has grown, the tokenizer says."""
    if not spec.model.resize_embeddings:
        check_tokens("data.responseTemplateIds", spec.data.response_template_ids or [], shape.vocab_size)
        check_tokens("data.instructionTemplateIds", spec.data.instruction_template_ids or [], shape.vocab_size)


def _check_packing(spec: FineTuneJobSpec, shape: ModelShape, topology: PlannedTopology) -> None:
    flash = topology.accelerator == "cuda" and spec.model.attn_implementation in ("auto", "flash_attention_2")
    if spec.data.packing == "bfd_split" and mixes_documents(shape.architecture, flash_attention=flash):
        raise ConfigurationError(
            f"data.packing: bfd_split mixes documents in a model of type {shape.architecture}, "
            "which ignores position_ids",
            "set data.packing: none, or wrapped, which joins documents on purpose",
        )
    if spec.data.padding_free and mixes_documents(shape.architecture, flash_attention=flash):
        raise ConfigurationError(
            f"data.paddingFree mixes sequences in a model of type {shape.architecture}, which ignores position_ids",
            "leave data.paddingFree out",
        )


def _plan_training(
    job: FineTuneJob, shape: ModelShape, layout: RuntimeLayout, identity: JobIdentity, reference: ModelShape | None
) -> Plan:
    spec = merge_deepspeed(job.spec)
    check_trainable(shape.quantization, "model")
    check_arguments(spec)
    check_adapter(spec, shape)
    _check_length(shape, spec.data.max_length)
    if spec.data.packing != "bfd_split":  # Such blocks are padded where no position is taken.
        _check_padding(spec.data, shape)
    if generation := spec.evaluation.generation:
        longest_prompt(InferenceData(), shape.context, generation.max_new_tokens)
        check_end_tokens(generation, shape.vocab_size)
    _check_template_ids(spec, shape)
    topology = plan_topology(spec.topology, spec.parallelism, layout)
    _check_packing(spec, shape, topology)
    batch = training_batch(spec.training, topology.data_parallel)
    precision = resolve_precision(spec.training.precision, topology.accelerator)
    check_precision(precision, spec.deepspeed)
    workload = training_workload(spec, shape, precision, batch, topology)
    candidates = choose_candidate(workload, spec.zero)
    training = resolve_training(spec.training, batch, precision)
    candidate = next((each for each in candidates if each.taken), candidates[-1])
    plan = Plan(
        config=train_config(spec, shape, training, topology, layout, identity),
        hostfile=plan_hostfile(topology, layout),
        backend=layout.backend,
        instance_type=layout.instance_type,
        topology=topology,
        batch=batch,
        precision=precision,
        shape=shape,
        workload=workload,
        candidates=candidates,
        deepspeed=deepspeed_settings(
            spec.deepspeed, training, batch, candidate, shape, on_cpu=topology.accelerator == "cpu"
        ),
        notes=(
            *_notes_on_model(shape, spec.data.max_length),
            *_notes_on_training(job, candidate, workload, shape),
            *reference_note(spec, reference, workload, candidate),
        ),
    )
    error = rejection(spec, workload, candidates)
    if error is not None:
        raise DoesNotFitError(error.message, error.hint, plan)
    return plan


def _plan_inference(job: InferenceJob, shape: ModelShape, layout: RuntimeLayout, identity: JobIdentity) -> Plan:
    spec = job.spec
    check_generates(shape.quantization, "model")
    _check_length(shape, spec.data.max_length)
    longest_prompt(spec.data, shape.context, spec.generation.max_new_tokens if spec.task == "generate" else 0)
    check_end_tokens(spec.generation, shape.vocab_size)
    check_options(spec)
    topology = plan_topology(spec.topology, spec.parallelism, layout)
    default = default_records(spec.engine, topology.accelerator)
    batch = inference_batch(spec.global_batch_size, spec.per_device_batch_size, topology.world_size, default)
    precision = resolve_precision(spec.precision, topology.accelerator)
    engine = plan_engine(spec, shape, precision, batch, topology)
    return Plan(
        config=infer_config(spec, shape, precision, batch, engine, topology, layout, identity),
        hostfile=plan_hostfile(topology, layout),
        backend=layout.backend,
        instance_type=layout.instance_type,
        topology=topology,
        batch=batch,
        precision=precision,
        shape=shape,
        generation=engine.memory,
        notes=(*_notes_on_model(shape, spec.data.max_length), *engine.notes),
    )


def _notes_on_model(shape: ModelShape, length: int | None) -> list[str]:
    notes = []
    if not shape.exact:
        notes.append(
            f"model_type {shape.architecture!r} is not one zerotune counts exactly: "
            f"{shape.parameters:,} parameters are an estimate"
        )
    if length and shape.context and length > shape.context:
        notes.append(f"data.maxLength {length} exceeds the {shape.context} tokens that the model was made for")
    return notes


def _notes_on_training(job: FineTuneJob, candidate: ZeroCandidate, workload: Workload, shape: ModelShape) -> list[str]:
    notes = adapter_notes(job.spec, shape)
    if job.spec.model.resize_embeddings:
        notes.append(
            f"model.resizeEmbeddings: memory is estimated for the {shape.vocab_size:,} tokens of config.json; each "
            f"token that the tokenizer has besides adds {shape.hidden_size:,} parameters, and as many to an untied head"
        )
    if job.spec.evaluation.eval_strategy == "no" and (job.spec.data.validation or job.spec.data.validation_fraction):
        notes.append("evaluation.evalStrategy is no: nothing is evaluated on the validation records")
    if candidate.taken and candidate.verdict in ("tight", "does not fit"):
        notes.append(f"{candidate.name} is {candidate.reason.removeprefix('taken: ')}")
    if workload.node_bytes is None and not workload.on_cpu:
        notes.append(f"topology.memory is not set: a node's host takes {gib(candidate.node_bytes)}")
    scheduler = job.spec.deepspeed.get("scheduler")
    if scheduler:
        equal = SCHEDULES[scheduler["type"]]
        notes.append(f"deepspeed.scheduler {scheduler['type']} runs as training.lrSchedulerType {equal}")
    return notes
