"""Where a job runs on SageMaker: its instances, their names and memory, and the folders of an attempt on S3. Pure."""

from __future__ import annotations

import uuid
from dataclasses import replace

from zerotune_operator.api.backend import SageMakerSpec
from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.backends.names import ATTEMPT_LETTERS, stem
from zerotune_operator.backends.sagemaker.channels import channel_facts, source_uri
from zerotune_operator.backends.sagemaker.gpus import require_gpus, require_one_with, unsuitable
from zerotune_operator.backends.sagemaker.instances import describe, instance_type
from zerotune_operator.plan import RuntimeLayout
from zerotune_trainer.errors import ConfigurationError

_CACHE_DIR = "/tmp/zerotune/cache"  # noqa: S108 the container is the job's alone
_OFFLOAD_DIR = "/tmp/zerotune/offloaded"  # noqa: S108 on the instance's volume, as all of /tmp
_STARTING_SECONDS = 1800
"""Instances start within minutes of each other, once SageMaker has all of them."""
_VERSION_OF_A_RUN = 5
OWN_FOLDER = ".sagemaker"
"""Folder in the output for what the operator and the instances exchange. Hidden: it is no part of the result."""
CLAIM_PATH = f"{OWN_FOLDER}/claim.json"
"""File in an output that says which training job was created last to write there."""


def place(job: Job, model_uri: str) -> RuntimeLayout:
    """Where `job` runs: on its instance type, or on the first of several, whose layouts are the `alternatives`.

    Args:
        job: The job.
        model_uri: The model as `model_source` says, or the output of the FineTuneJob that the spec names.

    Raises:
        ConfigurationError: `output.uri` is missing, or no instance type has the GPUs that the topology asks for.
    """
    sagemaker, wanted = sagemaker_of(job), job.spec.topology.gpus_per_node
    if sagemaker.instance_type is not None:
        require_gpus(sagemaker.instance_type, wanted)
        return _place_on(sagemaker.instance_type, job, model_uri)
    left_out = unsuitable(sagemaker.instance_types, wanted)
    require_one_with(sagemaker.instance_types, wanted, left_out)
    layouts = [_place_on(name, job, model_uri) for name in sagemaker.instance_types if name not in left_out]
    return replace(layouts[0], alternatives=tuple(layouts), left_out=left_out)


def _place_on(name: str, job: Job, model_uri: str) -> RuntimeLayout:
    output, known, topology = output_uri(job), instance_type(name), job.spec.topology
    written = job.spec.model.uri
    on_channel = written is not None and written != model_source(job, written)
    gpus = known.gpus if known else topology.gpus_per_node
    ranks = gpus or topology.processes_per_node or 1
    checkpoints = job.spec.checkpoint.uri if isinstance(job, FineTuneJob) else None
    return RuntimeLayout(
        hosts=hosts_of(job),
        resolve=lambda uri: uri,
        model_uri=str(written) if on_channel else model_uri,
        model_source=model_source(job, str(written)) if on_channel else None,
        output_uri=output,
        checkpoint_uri=checkpoints or f"{output}/checkpoints",
        cache_dir=_CACHE_DIR,
        offload_dir=_OFFLOAD_DIR,
        backend="sagemaker",
        threads_per_rank=max(1, known.vcpus // 2 // ranks) if known else 1,  # Two vCPUs are a core.
        device_bytes=known.gpu_bytes if known else None,
        node_bytes=known.node_bytes if known else None,
        name_resolution_timeout_seconds=_STARTING_SECONDS,
        instance_type=name,
        gpus_per_node=gpus,
    )


def hosts_of(job: Job) -> tuple[str, ...]:
    """The instances of a training job, as SageMaker names them to each other."""
    return tuple(f"algo-{number}" for number in range(1, job.spec.topology.nodes + 1))


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


def model_source(job: Job, uri: str) -> str:
    """Where a model that the spec names lies outside of the container: on S3, where it is on a channel."""
    return source_uri(sagemaker_of(job), uri)


def facts(job: Job) -> list[tuple[str, str]]:
    """What `zerotune plan` prints of the job's instances."""
    sagemaker, nodes = sagemaker_of(job), job.spec.topology.nodes
    region = sagemaker.region or "the region of the environment"
    if sagemaker.instance_type is None:
        names = ", else ".join(sagemaker.instance_types)
        instances = f"{nodes} in {region}, of the first type that there is capacity of: {names}"
    else:
        instances = f"{nodes} x {sagemaker.instance_type} in {region}: {describe(sagemaker.instance_type)}"
    return [("instances", instances), *channel_facts(sagemaker), *_missing(sagemaker)]


def _missing(sagemaker: SageMakerSpec) -> list[tuple[str, str]]:
    """What an installation on a cluster has defaults for."""
    role = "`zerotune run` takes the role of the notebook or of the credentials; the operator has a default"
    image = "`zerotune run` needs it; the operator has a default"
    fields = (("roleArn", sagemaker.role_arn, role), ("image", sagemaker.image, image))
    return [("not set", f"backend.sagemaker.{name}: {text}") for name, value, text in fields if value is None]


def job_name(job: Job, attempt: int) -> str:
    """Name of the training job of an attempt: `NAME-HASH-a0` of a FineTuneJob, `NAME-HASH-i0` of an InferenceJob."""
    sagemaker = sagemaker_of(job)
    return f"{stem(job, sagemaker.job_name_prefix)}-{ATTEMPT_LETTERS[job.kind]}{attempt}"


def uid_of(job: Job) -> str:
    """The uid of a job without a cluster: any machine finds its training jobs, whose names are made of it."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"zerotune:{job.kind}/{job.metadata.name}@{output_uri(job)}"))


def fresh_uid_of(job: Job) -> str:
    """A uid that no job had before, of one that is to begin anew."""
    return str(uuid.uuid5(uuid.UUID(uid_of(job)), str(uuid.uuid4())))


def is_of_a_run(uid: str) -> bool:
    """Whether a uid is one of these two: a cluster gives those of version 4."""
    try:
        return uuid.UUID(uid).version == _VERSION_OF_A_RUN
    except ValueError:
        return False


def claim_uri(job: Job) -> str:
    """File on S3 that says which training job was created last to write to the job's output."""
    return f"{output_uri(job)}/{CLAIM_PATH}"


def parents_of(output: str) -> list[str]:
    """The folders of its bucket that an output lies in, the innermost first."""
    bucket, *folders = output.removeprefix("s3://").split("/")
    return [f"s3://{'/'.join([bucket, *folders[:count]])}" for count in range(len(folders) - 1, 0, -1)]


def attempt_uri(job: Job, attempt: int) -> str:
    """Folder on S3 of what the operator hands to an attempt (`job`) and what its instances report (`status`)."""
    return f"{output_uri(job)}/{OWN_FOLDER}/{job_name(job, attempt)}"


def files_uri(job: Job, attempt: int) -> str:
    """Folder on S3 of the files that the instances of an attempt receive."""
    return f"{attempt_uri(job, attempt)}/job"


def stop_uri(job: Job, attempt: int) -> str:
    """Object on S3 that is there once zerotune has asked for a stop of an attempt."""
    return f"{attempt_uri(job, attempt)}/stop"


def output_uri(job: Job) -> str:
    """Folder of the result.

    Raises:
        ConfigurationError: the spec names none.
    """
    if job.spec.output.uri is None:
        raise ConfigurationError("output.uri is missing, and the job runs on SageMaker", "name s3://BUCKET/...")
    return job.spec.output.uri.rstrip("/")
