"""Where a job runs on SageMaker: its instances, their names and memory, and the folders of an attempt on S3. Pure."""

from __future__ import annotations

from zerotune_operator.api.backend import SageMakerSpec
from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.backends.names import ATTEMPT_LETTERS, stem
from zerotune_operator.backends.sagemaker.instances import InstanceType, describe, instance_type
from zerotune_operator.plan import RuntimeLayout
from zerotune_trainer.errors import ConfigurationError

_CACHE_DIR = "/tmp/zerotune/cache"  # noqa: S108 the container is the job's alone
_STARTING_SECONDS = 1800
"""Instances start within minutes of each other, once SageMaker has all of them."""
_FOLDER = ".sagemaker"
"""Folder in the output for what the operator and the instances exchange. Hidden: it is no part of the result."""


def place(job: Job, model_uri: str) -> RuntimeLayout:
    """Where `job` runs.

    Args:
        job: The job.
        model_uri: The model as the spec names it, or the output of the FineTuneJob that it names.

    Raises:
        ConfigurationError: `output.uri` is missing, or the instance type has other GPUs than the topology asks for.
    """
    output, sagemaker, topology = _output_uri(job), sagemaker_of(job), job.spec.topology
    known = instance_type(sagemaker.instance_type)
    if known is not None:
        _require_gpus(sagemaker.instance_type, known, topology.gpus_per_node)
    ranks = topology.gpus_per_node or topology.processes_per_node or 1
    checkpoints = job.spec.checkpoint.uri if isinstance(job, FineTuneJob) else None
    return RuntimeLayout(
        # As SageMaker names the instances of a training job to each other.
        hosts=tuple(f"algo-{number}" for number in range(1, topology.nodes + 1)),
        resolve=lambda uri: uri,
        model_uri=model_uri,
        output_uri=output,
        checkpoint_uri=checkpoints or f"{output}/checkpoints",
        cache_dir=_CACHE_DIR,
        backend="sagemaker",
        threads_per_rank=max(1, known.vcpus // 2 // ranks) if known else 1,  # Two vCPUs are a core.
        device_bytes=known.gpu_bytes if known else None,
        node_bytes=known.node_bytes if known else None,
        name_resolution_timeout_seconds=_STARTING_SECONDS,
    )


def sagemaker_of(job: Job) -> SageMakerSpec:
    """The settings of a job that runs on SageMaker.

    Raises:
        ConfigurationError: it has none.
    """
    if job.spec.backend.sagemaker is None:
        raise ConfigurationError(
            "backend.sagemaker is missing, and the job is to run on SageMaker",
            "set backend.sagemaker.instanceType, e.g. ml.g5.12xlarge",
        )
    return job.spec.backend.sagemaker


def facts(job: Job) -> list[tuple[str, str]]:
    """What `zerotune plan` prints of the job's instances."""
    sagemaker = sagemaker_of(job)
    described = describe(sagemaker.instance_type)
    region = sagemaker.region or "the operator's region"
    return [("instances", f"{job.spec.topology.nodes} x {sagemaker.instance_type} in {region}: {described}")]


def job_name(job: Job, attempt: int) -> str:
    """Name of the training job of an attempt: `NAME-HASH-a0` of a FineTuneJob, `NAME-HASH-i0` of an InferenceJob."""
    sagemaker = sagemaker_of(job)
    return f"{stem(job, sagemaker.job_name_prefix)}-{ATTEMPT_LETTERS[job.kind]}{attempt}"


def attempt_uri(job: Job, attempt: int) -> str:
    """Folder on S3 of what the operator hands to an attempt (`job`) and what its instances report (`status`)."""
    return f"{_output_uri(job)}/{_FOLDER}/{job_name(job, attempt)}"


def _output_uri(job: Job) -> str:
    if job.spec.output.uri is None:
        raise ConfigurationError("output.uri is missing, and the job runs on SageMaker", "name s3://BUCKET/...")
    return job.spec.output.uri.rstrip("/")


def _require_gpus(name: str, known: InstanceType, wanted: int) -> None:
    if known.gpus != wanted:
        raise ConfigurationError(
            f"topology.gpusPerNode is {wanted}, and an instance of type {name} has {known.gpus} GPUs",
            f"set topology.gpusPerNode to {known.gpus}, or choose another backend.sagemaker.instanceType",
        )
