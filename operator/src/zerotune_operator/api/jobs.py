"""The two kinds, as a user writes them: FineTuneJob and InferenceJob."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from zerotune_operator.api.backend import BackendSpec
from zerotune_operator.api.parallelism import Parallelism
from zerotune_operator.api.rules import FINE_TUNE_RULES, INFERENCE_RULES
from zerotune_operator.api.run_policy import RunPolicy
from zerotune_operator.api.topology import Topology
from zerotune_trainer.config.adapter import Adapter
from zerotune_trainer.config.base import JsonObject, Number, Rule, Settings
from zerotune_trainer.config.data import Data
from zerotune_trainer.config.generation import Embedding, Engine, Generation, InferenceData, InferenceOutputFormat, Task
from zerotune_trainer.config.methods import Method
from zerotune_trainer.config.plugin import Plugin, RecordPlugin
from zerotune_trainer.config.script import Script
from zerotune_trainer.config.sources import Model, Output
from zerotune_trainer.config.training import Checkpoint, Evaluation, Precision, Preference, Training, Zero

GROUP = "zerotune.dev"
VERSION = "v1alpha1"


def _time(value: Any) -> Any:
    """A time as the API server writes it, which strict validation of what it hands out takes for a text."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


class Metadata(Settings):
    """The part of ObjectMeta that zerotune reads; the rest is kept as it is."""

    model_config = Settings.model_config | {"extra": "allow"}

    name: str = Field(min_length=1, max_length=52, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Name of the job. At most 52 characters, so that the names of its pods fit into a DNS label."""
    namespace: str = Field(default="default", max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Namespace of the job: a DNS label, of lower-case letters, digits and '-', at most 63 characters."""
    labels: dict[str, str] = Field(default={})
    """Labels of the resource. Those of its pods: `backend.kubernetes.metadata`."""
    annotations: dict[str, str] = Field(default={})
    """Annotations of the resource."""
    uid: str = ""
    """Set by the API server; the local backend makes one."""
    creation_timestamp: Annotated[datetime | None, BeforeValidator(_time)] = None
    """Set by the API server and by the local backend."""


class FineTuneJobSpec(Settings):
    """A model, data, a method, and where to run."""

    rules: ClassVar[tuple[Rule, ...]] = FINE_TUNE_RULES

    method: Method
    """cpt: continued pre-training on text; sft: supervised fine-tuning; dpo, orpo, kto: preference optimization;
    script: a script of your own."""
    model: Model
    """The model to start from."""
    data: Data
    """What to train and evaluate on."""
    training: Training = Training()
    """Hyperparameters."""
    preference: Preference | None = None
    """Options of the methods dpo, orpo and kto."""
    script: Script | None = None
    """What method script runs."""
    plugin: Plugin | None = None
    """Code of your own that takes the place of a part of the training."""
    adapter: Adapter | None = None
    """Train an adapter instead of all parameters."""
    parallelism: Parallelism = Parallelism()
    """How one model replica is split over ranks."""
    zero: Zero = Zero()
    """DeepSpeed ZeRO."""
    deepspeed: JsonObject = Field(default={}, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
    """DeepSpeed configuration merged last over the generated one; values may be `auto`."""
    topology: Topology = Topology()
    """Nodes and ranks."""
    checkpoint: Checkpoint = Checkpoint()
    """When to save, how much to keep, where to resume."""
    evaluation: Evaluation = Evaluation()
    """When to evaluate."""
    output: Output = Output()
    """Where the trained model goes."""
    backend: BackendSpec = BackendSpec()
    """What runs the job."""
    run_policy: RunPolicy = RunPolicy()
    """Restarts, deadlines, queues."""


class InferenceJobSpec(Settings):
    """A model, records, generation options, and where to run."""

    rules: ClassVar[tuple[Rule, ...]] = INFERENCE_RULES

    model: Model
    """The model to run."""
    engine: Engine = "auto"
    """What generates. transformers: a copy of the model on every rank; deepspeed: each layer split over ranks (AutoTP);
    zero: ZeRO-Inference; vllm: vLLM, in an image that has it. `auto`: the first of the first three whose weights fit
    into memory."""
    data: InferenceData
    """Records to run the model over."""
    plugin: RecordPlugin | None = None
    """A function of your own that every record goes through first."""
    task: Task = "generate"
    """generate: text; score: how likely the model finds a text, a completion of a prompt, or each of `labels`; embed: a
    vector of each text."""
    labels: list[Annotated[str, StringConstraints(min_length=1)]] = Field(default=[], max_length=256)
    """For task `score`: the texts that may follow a prompt. The output has the likeliest, and the probability of each
    among them."""
    embedding: Embedding = Embedding()
    """For task `embed`: how vectors are made."""
    generation: Generation = Generation()
    """Generation options."""
    precision: Precision = "auto"
    """Number format of the weights. `auto`: bf16 on GPUs, fp32 on CPU."""
    global_batch_size: int | None = Field(default=None, ge=1)
    """Records all ranks of a replica generate for at once; must be a multiple of these ranks."""
    per_device_batch_size: int | None = Field(default=None, ge=1)
    """Records a rank generates for at once where their prompts are long; of shorter ones up to 8 times as many, in the
    memory of those. Default: `globalBatchSize` / ranks, else 8, or 256 with engine vllm on GPUs."""
    parallelism: Parallelism = Parallelism()
    """How one model replica is split over ranks. `tensor` 1 leaves it to the engine `deepspeed` over how few ranks of a
    node it splits the model, so that the weights fit."""
    kernel_inject: bool = False
    """Replace layers by DeepSpeed's CUDA kernels (`replace_with_kernel_inject`), which are for transformers 4: rejected
    by this version."""
    zero: Zero = Zero()
    """Offload for the engine `zero`."""
    topology: Topology = Topology()
    """Nodes and ranks."""
    max_error_rate: Number | None = Field(default=None, ge=0, le=1)
    """Share of all records that may become error records. The job fails as soon as there are more. Left out: any."""
    output: Output = Output()
    """Where the results go."""
    output_format: InferenceOutputFormat = InferenceOutputFormat()
    """Shape of the output files."""
    backend: BackendSpec = BackendSpec()
    """What runs the job."""
    run_policy: RunPolicy = RunPolicy()
    """Restarts, deadlines, queues."""


class FineTuneJob(Settings):
    """Fine-tuning of a language model: of all its parameters, or of an adapter."""

    api_version: Literal["zerotune.dev/v1alpha1"]
    kind: Literal["FineTuneJob"]
    metadata: Metadata
    """Name, namespace, labels and annotations."""
    spec: FineTuneJobSpec
    """What is asked for."""


class InferenceJob(Settings):
    """Batch inference of a language model over files of records."""

    api_version: Literal["zerotune.dev/v1alpha1"]
    kind: Literal["InferenceJob"]
    metadata: Metadata
    """Name, namespace, labels and annotations."""
    spec: InferenceJobSpec
    """What is asked for."""


Job = FineTuneJob | InferenceJob

KINDS: dict[str, type[FineTuneJob] | type[InferenceJob]] = {"FineTuneJob": FineTuneJob, "InferenceJob": InferenceJob}
"""The kinds by name."""
