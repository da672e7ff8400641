"""The two configurations a pod may receive, and how its folder is read."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from zerotune_trainer.config.adapter import Adapter
from zerotune_trainer.config.base import Number, Settings
from zerotune_trainer.config.data import Data, Packing
from zerotune_trainer.config.generation import Embedding, Engine, Generation, InferenceData, InferenceOutputFormat, Task
from zerotune_trainer.config.methods import METHODS, Method, MethodTraits, packing_of
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.config.plugin import Plugin, RecordPlugin
from zerotune_trainer.config.script import Script
from zerotune_trainer.config.sources import Model, Output
from zerotune_trainer.config.training import Checkpoint, Evaluation, Precision, Preference, Training
from zerotune_trainer.errors import ConfigurationError, InputMissingError

ConfigVersion = Literal["v1alpha1"]

RENDEZVOUS_FILE = "rendezvous-secret"
"""File of a job's folder: what the ranks of an attempt know, and nobody else."""


class JobIdentity(Settings):
    """Which job this is. Output and checkpoints carry it, so that another job's folder is not overwritten."""

    kind: Literal["FineTuneJob", "InferenceJob"]
    name: str
    uid: str
    """The resource's UID; the local backend makes one when it first sees a job."""
    attempt: int = Field(default=0, ge=0)
    created: datetime | None = None
    """When the resource was created: the time that a chat template reads, so that all attempts make the same rows."""


class OriginFolder(Settings):
    """A folder that a job reads, and the other job that is to have written it."""

    field: str
    """What names that job: `model.fromFineTuneJob`."""
    kind: Literal["FineTuneJob", "InferenceJob"]
    name: str
    uri: str
    """The folder, as ranks read it."""


class Launch(Settings):
    """How the ranks find each other and how long they are waited for."""

    master_port: int = Field(default=29500, ge=1, le=65535)
    """Port on the first host where the process group meets."""
    progress_port: int = Field(default=9400, ge=1, le=65535)
    """Port on every host that serves `/progress` and `/metrics`."""
    name_resolution_timeout_seconds: int = Field(default=300, ge=1)
    """How long the names of the hostfile may take to resolve."""
    rendezvous_timeout_seconds: int = Field(default=600, ge=1)
    """How long the ranks may take to find each other once they run. What they prepare afterwards takes its time."""
    hang_timeout_seconds: int = Field(default=1800, ge=1)
    """How long a rank may go without progress before the job counts as hung, and DNS without an answer."""
    replicas: int = Field(default=1, ge=1)
    """Replicas of an InferenceJob: the hosts divide into so many worlds, which share its work."""
    replica_timeout_seconds: int = Field(default=30, ge=1)
    """How long a replica may be silent before the others take over what it has begun."""
    accelerator: Literal["cuda", "cpu"] = "cpu"
    """What the ranks compute on."""
    threads_per_rank: int = Field(default=1, ge=1)
    """CPU threads a rank computes with (`OMP_NUM_THREADS`)."""
    cache_dir: str
    """Folder for tokenized data and fetched models; survives an attempt where the node keeps it."""
    offload_dir: str | None = None
    """Folder on a disk of every node for parameters that are offloaded to it; nothing in it outlives an attempt. None:
    nothing is offloaded to disk."""
    max_in_cpu: int = Field(default=0, ge=0)
    """Parameters, in numbers, that a rank keeps in host memory of those that are offloaded to disk."""


class _Config(Settings):
    version: ConfigVersion = "v1alpha1"
    job: JobIdentity
    launch: Launch
    model: Model
    model_shape: ModelShape | None = None
    """What the plan was made for. None: it is not known for certain, and nothing is compared."""
    model_source: str | None = None
    """The model as the spec names it: what an adapter records as its base. Default: `model.uri`."""
    base_uri: str | None = None
    """Where the model is an adapter, the folder of its base. Default: the one that `adapter_config.json` names. Where
    it is a training checkpoint, the folder of the model that the training began with."""
    origins: list[OriginFolder] = Field(default=[])
    """What the job reads of other jobs' outputs."""
    output: Output
    same_result_as: str | None = None
    """Where the job may run on several instance types, the digest of the configuration for the first of them: an
    attempt on another one goes on with what it has made."""

    def digest(self) -> str:
        """sha256 (hex) of what determines the result: all but attempt, launch and where to resume.

        Defaults are left out: an attempt that begins after an upgrade goes on with what the one before has made, also
        where there are new fields. So no default may change that determines a result.
        """
        if self.same_result_as is not None:
            return self.same_result_as
        text = self.model_dump_json(
            by_alias=True,
            exclude_defaults=True,
            exclude={
                "launch": True,
                "origins": True,
                "same_result_as": True,
                "max_error_rate": True,
                "job": {"attempt", "created"},
                "checkpoint": {"resume"},
            },
        )
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def model_uri(self) -> str:
        """The model's folder, which the plan fills in.

        Raises:
            ConfigurationError: it is not there.
        """
        return _given("model.uri", self.model.uri)

    @property
    def output_uri(self) -> str:
        """The result's folder, which the plan fills in.

        Raises:
            ConfigurationError: it is not there.
        """
        return _given("output.uri", self.output.uri)


class TrainConfig(_Config):
    """A FineTuneJob as its ranks read it. The batch is resolved: micro batch and accumulation are numbers."""

    kind: Literal["TrainConfig"] = "TrainConfig"
    method: Method
    data: Data
    training: Training
    adapter: Adapter | None = None
    """What is trained instead of all parameters. None: all parameters are."""
    checkpoint: Checkpoint
    evaluation: Evaluation
    preference: Preference | None = None
    """Options of the methods dpo, orpo and kto."""
    script: Script | None = None
    """What method script runs."""
    plugin: Plugin | None = None
    """Functions of the user's own, which take the place of ours."""

    @property
    def traits(self) -> MethodTraits:
        """What is known of the method."""
        return METHODS[self.method]

    @property
    def packing(self) -> Packing:
        """How rows share blocks."""
        return packing_of(self.method, self.data)


class InferConfig(_Config):
    """An InferenceJob as its ranks read it."""

    kind: Literal["InferConfig"] = "InferConfig"
    plugin: RecordPlugin | None = None
    """A function of the user's own that every record goes through first."""
    engine: Engine
    task: Task = "generate"
    labels: list[str] = Field(default=[])
    """For task `score`: what may follow a prompt."""
    embedding: Embedding = Embedding()
    """For task `embed`: how vectors are made."""
    precision: Precision = "auto"
    data: InferenceData
    generation: Generation
    output_format: InferenceOutputFormat
    offload_param: Literal["none", "cpu", "nvme"] = "none"
    """Where engine `zero` holds the parameters: on the devices, in host memory, or on the nodes' disks."""
    tensor_parallel: int = Field(default=1, ge=1)
    """Ranks over which engine `deepspeed` splits each layer."""
    per_device_batch_size: int = Field(default=8, ge=1)
    """Records with long prompts that a rank generates for at once, see `engines.batches`."""
    max_error_rate: Number | None = Field(default=None, ge=0, le=1)
    """Share of all records that may become error records; with more the job fails."""


def _given(name: str, uri: str | None) -> str:
    if uri is None:
        raise ConfigurationError(f"{name} is missing from config.json", "the plan fills it in")
    return uri


_ANY = TypeAdapter[TrainConfig | InferConfig](Annotated[TrainConfig | InferConfig, Field(discriminator="kind")])


def load_config(folder: Path) -> TrainConfig | InferConfig:
    """Read `config.json` of a pod's folder.

    Raises:
        InputMissingError: there is none.
        ConfigurationError: it is not a TrainConfig or InferConfig of this version.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InputMissingError(f"{path} is not there", "give the folder that `zerotune plan -o json` describes")
    try:
        return _ANY.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigurationError(
            f"{path}: {error}", "the operator and the trainer image must be of one version"
        ) from error


def rendezvous_secret(folder: Path) -> bytes:
    """Read the attempt's secret from a pod's folder.

    Raises:
        InputMissingError: there is none.
    """
    path = folder / RENDEZVOUS_FILE
    secret = path.read_bytes().strip() if path.is_file() else b""
    if not secret:
        raise InputMissingError(
            f"{path} is not there, or empty: ranks could not distinguish each other from strangers",
            "give every host of the attempt the same secret, such as of `openssl rand -hex 32`, readable by it alone; "
            "on Kubernetes, delete the Secret with the name of the attempt's Job if the job did not make it",
        )
    return secret
