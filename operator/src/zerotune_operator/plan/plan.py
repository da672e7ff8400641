"""The Plan: what a job will do, as data, and the folder every pod receives."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from zerotune_operator.api.jobs import FineTuneJob, FineTuneJobSpec, InferenceJob, Job
from zerotune_operator.api.status import PlanSummary
from zerotune_operator.plan.batch import Batch, inference_batch, training_batch
from zerotune_operator.plan.config import infer_config, resolve_training, train_config
from zerotune_operator.plan.deepspeed import deepspeed_settings
from zerotune_operator.plan.folders import check_folders
from zerotune_operator.plan.layout import RuntimeLayout
from zerotune_operator.plan.memory import inference_memory, training_memory
from zerotune_operator.plan.overrides import SCHEDULES, check_precision, merge_deepspeed
from zerotune_operator.plan.precision import resolve_precision
from zerotune_operator.plan.templates import check_templates
from zerotune_operator.plan.topology import PlannedTopology, plan_hostfile, plan_topology
from zerotune_trainer.config import InferConfig, JobIdentity, TrainConfig
from zerotune_trainer.config.base import JsonObject
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.sizing.memory import GenerationMemory, Precision, Rung
from zerotune_trainer.sizing.position_ids import mixes_documents
from zerotune_trainer.sizing.quantization import check_generates, check_trainable
from zerotune_trainer.sizing.shape import ModelShape


@dataclass(frozen=True)
class Plan:
    """Everything that is settled before a job starts."""

    config: TrainConfig | InferConfig
    hostfile: Hostfile
    backend: str
    topology: PlannedTopology
    batch: Batch
    precision: Precision
    shape: ModelShape
    ladder: tuple[Rung, ...] = ()
    """Of a FineTuneJob: every rung, one of them taken."""
    generation: GenerationMemory | None = None
    """Of an InferenceJob."""
    deepspeed: JsonObject | None = None
    """Of a FineTuneJob: the content of `deepspeed.json`."""
    notes: tuple[str, ...] = ()
    """What the user should know, a sentence each."""

    @property
    def rung(self) -> Rung | None:
        """The rung of the ladder that was taken."""
        return next((rung for rung in self.ladder if rung.taken), None)

    def artifacts(self) -> dict[str, str]:
        """The folder every pod receives: text by file name."""
        files = {
            "config.json": self.config.model_dump_json(by_alias=True, indent=2) + "\n",
            "hostfile": self.hostfile.render(),
        }
        if self.deepspeed is not None:
            files["deepspeed.json"] = json.dumps(self.deepspeed, indent=2) + "\n"
        return files

    def summary(self) -> PlanSummary:
        """The plan as the resource's status keeps it."""
        memory = self.rung or self.generation
        return PlanSummary.model_validate(
            {
                "backend": self.backend,
                "nodes": self.topology.nodes,
                "worldSize": self.topology.world_size,
                "globalBatchSize": self.batch.global_size,
                "perDeviceBatchSize": self.batch.micro,
                "gradientAccumulationSteps": self.batch.accumulation if self.rung else None,
                "zeroStage": self.rung.stage if self.rung else None,
                "offloadOptimizer": self.rung.offload_optimizer if self.rung else None,
                "offloadParam": self.rung.offload_param if self.rung else None,
                "deviceBytes": memory.device_bytes if memory else None,
                "nodeBytes": memory.node_bytes if memory else None,
                "configDigest": self.config.digest(),
            }
        )

    def data(self) -> dict[str, Any]:
        """The whole plan as JSON data, its artifacts included."""
        return {
            "job": self.config.job.model_dump(by_alias=True),
            "backend": self.backend,
            "topology": self.topology.model_dump(by_alias=True),
            "hosts": [{"name": host.name, "ranks": list(host.ranks)} for host in self.hostfile.hosts],
            "batch": self.batch.model_dump(by_alias=True),
            "precision": self.precision,
            "model": self.shape.model_dump(by_alias=True),
            "ladder": [rung.model_dump(by_alias=True) for rung in self.ladder],
            "generation": self.generation.model_dump(by_alias=True) if self.generation else None,
            "notes": list(self.notes),
            "artifacts": self.artifacts(),
        }


def plan_job(job: Job, shape: ModelShape, layout: RuntimeLayout, identity: JobIdentity) -> Plan:
    """Settle everything about a job.

    Args:
        job: What is asked for; its own rules were checked.
        shape: The model, from its `config.json`.
        layout: Where it runs.
        identity: Which job and attempt this is.

    Raises:
        ConfigurationError: what is asked for contradicts itself or does not fit; the hint says what would.
    """
    check_templates(job)
    check_folders(job, layout)
    if isinstance(job, FineTuneJob):
        return _plan_training(job, shape, layout, identity)
    return _plan_inference(job, shape, layout, identity)


def _check_length(shape: ModelShape, length: int | None) -> None:
    if shape.learned_positions and length and shape.context and length > shape.context:
        raise ConfigurationError(
            f"data.maxLength {length} exceeds the {shape.context} positions that the {shape.architecture} model has",
            f"set data.maxLength to {shape.context} or less, or use a model with a longer context",
        )


def _check_packing(spec: FineTuneJobSpec, shape: ModelShape, topology: PlannedTopology) -> None:
    flash = topology.accelerator == "cuda" and spec.model.attn_implementation in ("auto", "flash_attention_2")
    if spec.data.packing == "bfd_split" and mixes_documents(shape.architecture, flash_attention=flash):
        raise ConfigurationError(
            f"data.packing: bfd_split mixes documents in a model of type {shape.architecture}, "
            "which ignores position_ids",
            "set data.packing: none, or wrapped, which joins documents on purpose",
        )


def _plan_training(job: FineTuneJob, shape: ModelShape, layout: RuntimeLayout, identity: JobIdentity) -> Plan:
    spec = merge_deepspeed(job.spec)
    check_trainable(shape.quantization, "model")
    _check_length(shape, spec.data.max_length)
    topology = plan_topology(spec.topology, spec.parallelism, layout)
    _check_packing(spec, shape, topology)
    batch = training_batch(spec.training, topology.data_parallel)
    precision = resolve_precision(spec.training.precision, topology.accelerator)
    check_precision(precision, spec.deepspeed)
    ladder = training_memory(spec, shape, precision, batch, topology)
    training = resolve_training(spec.training, batch, precision)
    rung = next(rung for rung in ladder if rung.taken)
    return Plan(
        config=train_config(spec, shape, training, topology, layout, identity),
        hostfile=plan_hostfile(topology, layout),
        backend=layout.backend,
        topology=topology,
        batch=batch,
        precision=precision,
        shape=shape,
        ladder=ladder,
        deepspeed=deepspeed_settings(
            spec.deepspeed, training, batch, rung, shape, on_cpu=topology.accelerator == "cpu"
        ),
        notes=(*_notes_on_model(shape, spec.data.max_length), *_notes_on_training(job, rung)),
    )


def _plan_inference(job: InferenceJob, shape: ModelShape, layout: RuntimeLayout, identity: JobIdentity) -> Plan:
    spec = job.spec
    check_generates(shape.quantization, "model")
    _check_length(shape, spec.data.max_length)
    topology = plan_topology(spec.topology, spec.parallelism, layout)
    batch = inference_batch(spec.global_batch_size, spec.per_device_batch_size, topology.data_parallel)
    precision = resolve_precision(spec.precision, topology.accelerator)
    generation, notes = inference_memory(spec, shape, precision, batch, topology)
    return Plan(
        config=infer_config(spec, shape, precision, batch, topology, layout, identity),
        hostfile=plan_hostfile(topology, layout),
        backend=layout.backend,
        topology=topology,
        batch=batch,
        precision=precision,
        shape=shape,
        generation=generation,
        notes=(*_notes_on_model(shape, spec.data.max_length), *notes),
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


def _notes_on_training(job: FineTuneJob, rung: Rung) -> list[str]:
    notes = []
    if rung.fits is False:
        notes.append(f"{rung.name} was {rung.reason}")
    scheduler = job.spec.deepspeed.get("scheduler")
    if scheduler:
        equal = SCHEDULES[scheduler["type"]]
        notes.append(f"deepspeed.scheduler {scheduler['type']} runs as training.lrSchedulerType {equal}")
    return notes
