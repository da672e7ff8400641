"""`config.json`: the spec with everything settled that a rank would otherwise have to guess."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TypeVar

from zerotune_operator.api.jobs import FineTuneJobSpec, InferenceJobSpec, Job
from zerotune_operator.api.origins import Origin
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.plan.batch import Batch
from zerotune_operator.plan.engine import PlannedEngine
from zerotune_operator.plan.layout import RuntimeLayout
from zerotune_operator.plan.topology import PlannedTopology
from zerotune_trainer.config import InferConfig, JobIdentity, Launch, OriginFolder, TrainConfig
from zerotune_trainer.config.data import Data, Records
from zerotune_trainer.config.methods import packing_of
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.config.plugin import PluginFile
from zerotune_trainer.config.script import Script
from zerotune_trainer.config.sources import Model, Output
from zerotune_trainer.config.training import Evaluation, Preference, Training
from zerotune_trainer.sizing.workload import Precision, bytes_per_number

RecordsT = TypeVar("RecordsT", bound=Records)
PluginT = TypeVar("PluginT", bound=PluginFile)


def train_config(
    spec: FineTuneJobSpec,
    shape: ModelShape,
    training: Training,
    topology: PlannedTopology,
    layout: RuntimeLayout,
    identity: JobIdentity,
) -> TrainConfig:
    """A FineTuneJob as its ranks read it.

    Args:
        spec: What is asked for.
        shape: The model.
        training: Its hyperparameters with batch and precision settled.
        topology: The ranks.
        layout: Where they run.
        identity: Which job and attempt this is.
    """
    return TrainConfig(
        job=identity,
        launch=_launch(spec.run_policy, topology, layout),
        model=_model(spec.model, layout),
        model_shape=_certain(shape, spec.model),
        model_source=layout.model_source,
        base_uri=_base(shape, layout),
        method=spec.method,
        data=_data(spec, layout),
        training=training,
        adapter=spec.adapter,
        checkpoint=spec.checkpoint.model_copy(update={"uri": layout.checkpoint_uri}),
        evaluation=_evaluation(spec.evaluation, layout),
        preference=_preference(spec.preference, layout),
        script=_script(spec.script, layout),
        plugin=_plugin(spec.plugin, layout),
        output=_output(spec.output, layout),
    )


def infer_config(
    spec: InferenceJobSpec,
    shape: ModelShape,
    precision: Precision,
    batch: Batch,
    engine: PlannedEngine,
    topology: PlannedTopology,
    layout: RuntimeLayout,
    identity: JobIdentity,
) -> InferConfig:
    """An InferenceJob as its ranks read it."""
    return InferConfig(
        job=identity,
        launch=_launch(spec.run_policy, topology, layout).model_copy(
            update={
                "offload_dir": layout.offload_dir if engine.offload_param == "nvme" else None,
                "max_in_cpu": engine.memory.in_memory // bytes_per_number(precision),
            }
        ),
        model=_model(spec.model, layout),
        model_shape=_certain(shape, spec.model),
        model_source=layout.model_source,
        base_uri=_base(shape, layout),
        engine=engine.name,
        task=spec.task,
        labels=spec.labels,
        embedding=spec.embedding,
        offload_param=engine.offload_param,
        tensor_parallel=engine.tensor_parallel,
        precision=precision,
        data=_records(spec.data, layout),
        plugin=_plugin(spec.plugin, layout),
        generation=spec.generation,
        output=_output(spec.output, layout),
        output_format=spec.output_format,
        per_device_batch_size=batch.micro,
        max_error_rate=spec.max_error_rate,
    )


def with_origins(config: TrainConfig | InferConfig, origins: Sequence[Origin]) -> TrainConfig | InferConfig:
    """The configuration with the jobs that are to have written what it reads.

    Args:
        config: Of a job; reads their outputs.
        origins: The jobs, as its spec names them.
    """
    found = [
        OriginFolder(field=each.path, kind=each.kind, name=each.name, uri=_uri_of(config, each)) for each in origins
    ]
    return config.model_copy(update={"origins": found})


def _uri_of(config: TrainConfig | InferConfig, origin: Origin) -> str:
    if origin.is_model:
        return config.model_uri
    records: Records = attrgetter(origin.part)(config)
    return records.uris[0]


def identity_of(job: Job, attempt: int = 0) -> JobIdentity:
    """The identity of the job and its attempt, for the configuration of its ranks."""
    metadata = job.metadata
    return JobIdentity(
        kind=job.kind, name=metadata.name, uid=metadata.uid, attempt=attempt, created=metadata.creation_timestamp
    )


def resolve_training(training: Training, batch: Batch, precision: Precision) -> Training:
    """Hyperparameters with nothing left open."""
    return training.model_copy(
        update={
            "global_batch_size": batch.global_size,
            "per_device_train_batch_size": batch.micro,
            "gradient_accumulation_steps": batch.accumulation,
            "per_device_eval_batch_size": training.per_device_eval_batch_size or batch.micro,
            "precision": precision,
        }
    )


def _launch(policy: RunPolicy, topology: PlannedTopology, layout: RuntimeLayout) -> Launch:
    return Launch(
        master_port=layout.master_port,
        progress_port=layout.progress_port,
        name_resolution_timeout_seconds=layout.name_resolution_timeout_seconds,
        hang_timeout_seconds=policy.hang_timeout_seconds,
        replicas=topology.replicas,
        accelerator=topology.accelerator,
        threads_per_rank=layout.threads_per_rank,
        cache_dir=layout.cache_dir,
    )


def _model(model: Model, layout: RuntimeLayout) -> Model:
    return model.model_copy(update={"uri": layout.model_uri, "from_fine_tune_job": None})


def _preference(preference: Preference | None, layout: RuntimeLayout) -> Preference | None:
    if preference is None or preference.reference_model is None:
        return preference
    named = preference.reference_model
    resolved = named.model_copy(update={"uri": layout.resolve(named.uri)})
    return preference.model_copy(update={"reference_model": resolved})


def _script(script: Script | None, layout: RuntimeLayout) -> Script | None:
    return None if script is None else script.model_copy(update={"file": layout.resolve(script.file)})


def _certain(shape: ModelShape, model: Model) -> ModelShape | None:
    """The shape, where it was read from the model itself. That of another job's output is the one which that job began
    with: what it wrote may differ in details.
    """
    return shape if model.from_fine_tune_job is None else None


def _base(shape: ModelShape, layout: RuntimeLayout) -> str | None:
    uri = shape.base_uri or shape.checkpoint_base
    return layout.resolve(uri) if uri else None


def _output(output: Output, layout: RuntimeLayout) -> Output:
    return output.model_copy(update={"uri": layout.output_uri})


def _data(spec: FineTuneJobSpec, layout: RuntimeLayout) -> Data:
    data = spec.data
    return data.model_copy(
        update={
            "train": _records(data.train, layout),
            "validation": _records(data.validation, layout) if data.validation else None,
            "replay": _records(data.replay, layout) if data.replay else None,
            "packing": packing_of(spec.method, data),
        }
    )


def _evaluation(evaluation: Evaluation, layout: RuntimeLayout) -> Evaluation:
    control = _records(evaluation.control, layout) if evaluation.control else None
    generation = evaluation.generation
    if generation and generation.data:
        generation = generation.model_copy(update={"data": _records(generation.data, layout)})
    return evaluation.model_copy(update={"control": control, "generation": generation})


def _records(records: RecordsT, layout: RuntimeLayout) -> RecordsT:
    return records.model_copy(update={"uris": [layout.resolve(uri) for uri in records.uris]})


def _plugin(plugin: PluginT | None, layout: RuntimeLayout) -> PluginT | None:
    if plugin is None:
        return None
    config_map = plugin.config_map
    file = f"{layout.config_maps_uri}/{config_map.name}/{config_map.key}" if config_map else layout.resolve(plugin.uri)
    return plugin.model_copy(update={"file": file, "config_map": None})
