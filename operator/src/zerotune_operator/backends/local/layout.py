"""Where a job runs on this machine: loopback addresses, free ports, its share of cores, memory and GPUs."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.api.origins import Origin, model_origin, record_origins
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.local.checkpoints import find_checkpoint
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.model_shape import model_shape, reference_shape
from zerotune_operator.plan import RuntimeLayout
from zerotune_operator.plan.outputs import reading_output
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError

_MOST_NODES = 254
_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
_MIB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """A CUDA device of this machine."""

    device: str
    """Its index in the order of the PCI bus. The index, not the UUID: DeepSpeed reads `CUDA_VISIBLE_DEVICES` as numbers
    where nvidia-ml-py is installed (accelerator/cuda_accelerator.py)."""
    memory_bytes: int


def place(job: Job, folder: JobFolder, home: Home, gpus: list[Gpu], model: str) -> RuntimeLayout:
    """Where the next attempt of `job` runs. The ports are free at this moment; another process may still take them.

    Args:
        job: The job.
        folder: Its folder.
        home: Where the jobs of this machine are.
        gpus: Those that the ranks run on.
        model: URI of the model's folder.

    Raises:
        ConfigurationError: there are more nodes than addresses.
    """
    topology = job.spec.topology
    nodes = topology.replicas * topology.nodes
    ranks = nodes * (topology.gpus_per_node or topology.processes_per_node or 1)
    master_port, progress_port = free_ports(2)
    return replace(
        outline(job, folder, home, model),
        master_port=master_port,
        progress_port=progress_port,
        threads_per_rank=max(1, len(os.sched_getaffinity(0)) // ranks),
        device_bytes=min((gpu.memory_bytes for gpu in gpus), default=None),
        # Not what is free at this moment: the same job is to be planned alike whatever else runs here.
        node_bytes=psutil.virtual_memory().total // nodes,
    )


def outline(job: Job, folder: JobFolder, home: Home, model: str) -> RuntimeLayout:
    """Where `job` runs, as far as it is known without I/O.

    Args:
        job: The job.
        folder: Its folder.
        home: Where the jobs of this machine are.
        model: URI of the model's folder.

    Raises:
        ConfigurationError: there are more nodes than addresses.
    """
    topology, output = job.spec.topology, output_uri(job, folder)
    nodes = topology.replicas * topology.nodes
    if nodes > _MOST_NODES:
        what = "topology.nodes is" if topology.replicas == 1 else "topology.replicas x nodes are"
        raise ConfigurationError(
            f"{what} {nodes}, but the local backend has {_MOST_NODES} addresses", "use fewer nodes"
        )
    return RuntimeLayout(
        hosts=tuple(f"127.0.0.{node}" for node in range(1, nodes + 1)),
        resolve=resolve,
        model_uri=model,
        output_uri=output,
        checkpoint_uri=checkpoint_uri(job, output),
        cache_dir=str(home.cache),
        offload_dir=str(folder.offloaded),
    )


def gpus_for(job: Job) -> list[Gpu]:
    """The GPUs that the job's ranks run on, in rank order; none for a job on CPU.

    Raises:
        ConfigurationError: the machine has fewer.
    """
    topology = job.spec.topology
    wanted = topology.replicas * topology.nodes * topology.gpus_per_node
    if not wanted:
        return []
    found = visible_gpus()
    if len(found) < wanted:
        raise ConfigurationError(
            f"topology asks for {counted(wanted, 'GPU')} (replicas x nodes x gpusPerNode), "
            f"this machine has {len(found)}",
            "lower them, or set gpusPerNode to 0 to run on CPU",
        )
    return found[:wanted]


def visible_gpus() -> list[Gpu]:
    """The CUDA devices that a process may use here, as nvidia-smi lists them; none where there is no driver."""
    try:
        listing = subprocess.run(_NVIDIA_SMI, capture_output=True, text=True, check=True, timeout=60).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return []
    rows = [line.split(", ") for line in listing.splitlines()]
    gpus = [Gpu(device=index, memory_bytes=int(memory) * _MIB) for index, _, memory in rows]
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return gpus
    by_name = {name: gpu for (index, uuid, _), gpu in zip(rows, gpus, strict=True) for name in (index, uuid)}
    return [by_name[name] for name in allowed.split(",") if name in by_name]


def free_ports(count: int) -> list[int]:
    """Ports that nothing on this machine listens on, at any of its addresses."""
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [int(open_socket.getsockname()[1]) for open_socket in sockets]
    for open_socket in sockets:
        open_socket.close()
    return ports


def resolve(uri: str) -> str:
    """A URI of the spec as processes of this machine read it: a relative `file://` path counts from the current folder.

    Raises:
        ConfigurationError: a `pvc://` URI: claims exist on a cluster only.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "pvc":
        raise ConfigurationError(
            f"{uri!r} names a volume claim, which only Kubernetes has", "use file:///PATH for a job on this machine"
        )
    return f"file://{Path(rest).expanduser().absolute()}" if scheme == "file" else uri


def output_uri(job: Job, folder: JobFolder) -> str:
    """Where the result goes: `spec.output.uri`, else the job's own folder."""
    given = job.spec.output.uri
    return resolve(given) if given else f"file://{folder.output}"


def checkpoint_uri(job: Job, output: str) -> str:
    """Where checkpoints go: `spec.checkpoint.uri`, else `checkpoints` in the output."""
    given = job.spec.checkpoint.uri if isinstance(job, FineTuneJob) else None
    return resolve(given) if given else f"{output.rstrip('/')}/checkpoints"


def find_inputs(job: Job, home: Home, known: tuple[str, ModelShape] | None = None) -> Inputs:
    """The model to start from with its shape, and the outputs of other jobs.

    Args:
        job: The job.
        home: Where the jobs of this machine are.
        known: The checkpoint that the job began with: the last or the best may be another one by now.

    Raises:
        InputMissingError, ConfigurationError: there is no such input.
        TemporaryError: its store does not answer, or the job that makes it still runs.
    """
    records = {origin.part: output_of(origin, home) for origin in record_origins(job)}
    if known is not None:
        uri, shape = known
    elif (origin := model_origin(job)) and job.spec.model.checkpoint is not None:
        source = _job_of(origin, home)
        output = output_uri(source.read_job(), source)
        uri, shape = find_checkpoint(origin, job.spec.model.checkpoint, source, output)
    else:
        uri = model_uri(job, home)
        with reading_output(job, uri):
            shape = model_shape(uri, job.spec.model.revision)
    return Inputs(uri, shape, records, reference_shape(job, resolve))


def model_uri(job: Job, home: Home) -> str:
    """The model to start from: `model.uri`, or the output of the local job that `model.fromFineTuneJob` names.

    Raises:
        InputMissingError: there is no such job, or it did not succeed.
        TemporaryError: it is still running.
    """
    if origin := model_origin(job):
        return output_of(origin, home)
    assert job.spec.model.uri is not None, "validation asks for one of the two"
    return resolve(job.spec.model.uri)


def output_of(origin: Origin, home: Home) -> str:
    """URI of the output of another local job.

    Raises:
        InputMissingError: there is no such job, or it did not succeed.
        TemporaryError: it is still running.
    """
    source = _job_of(origin, home)
    if source.is_running():
        raise TemporaryError(f"{origin} is still running", f"wait for it: `zerotune logs {source.name} -f`")
    status = source.read_status()
    if status.phase != "Succeeded" or status.output is None:
        cause = f": {status.root_cause.message}" if status.root_cause else ""
        raise InputMissingError(
            f"{origin} has not succeeded, its phase is {status.phase}{cause}", "run that job to its end first"
        )
    return status.output.uri


def _job_of(origin: Origin, home: Home) -> JobFolder:
    source = home.job(origin.kind, origin.name)
    if not (source.path / "job.yaml").is_file():
        names = ", ".join(folder.name for folder in home.jobs() if folder.kind == origin.kind) or "none"
        raise InputMissingError(
            f"{origin} is no {origin.kind} in {home.path} (there are: {names})",
            "run that job first, or correct the name",
        )
    return source
