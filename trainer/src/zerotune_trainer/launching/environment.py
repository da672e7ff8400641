"""What a node has: one JSON line in its log at start. Imports torch.

Nothing here is probed or compiled: what takes time (`ds_report` calls the compiler once an op) is left out.
"""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.jobs import Launch
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ConfigurationError, InternalError
from zerotune_trainer.hostfile import Host
from zerotune_trainer.without_mlflow import deepspeed

# isort: split
from deepspeed.git_version_info import installed_ops


class Environment(Settings):
    """A node's hardware and libraries."""

    host: str
    python: str
    torch: str
    deepspeed: str
    deepspeed_ops: list[str]
    """DeepSpeed ops built at install; any other is compiled where it is first used."""
    cuda: str | None
    """CUDA that torch was built for."""
    nccl: str | None
    """NCCL of torch."""
    torch_architectures: list[str]
    """GPU architectures torch has kernels for, such as `sm_90`."""
    gpus: list[str]
    """GPUs of the node with their architecture: `NVIDIA H100 80GB HBM3 sm_90`. Empty where ranks compute on CPU."""
    cpus: int
    """CPUs this process may run on."""
    threads_per_rank: int


def environment(host: Host, launch: Launch) -> Environment:
    """Describe this node. In a rank: on GPUs it initializes CUDA, as the rank does anyway."""
    return Environment(
        host=host.name,
        python=platform.python_version(),
        torch=str(torch.__version__),
        deepspeed=deepspeed.__version__,
        deepspeed_ops=sorted(name for name, built in installed_ops.items() if built),
        cuda=torch.version.cuda,
        nccl=_nccl_version(),
        torch_architectures=_torch_architectures(),
        gpus=_gpus() if launch.accelerator == "cuda" else [],
        cpus=len(os.sched_getaffinity(0)),
        threads_per_rank=launch.threads_per_rank,
    )


def check_devices(host: Host, launch: Launch) -> None:
    """See that this host has a GPU for each of its ranks, untouched by the process they were forked from.

    Raises:
        ConfigurationError: it has fewer GPUs than slots.
        InternalError: an import initialized CUDA before the ranks were forked, after which none of them can use it.
    """
    if launch.accelerator == "cpu":
        return
    if (count := torch.cuda.device_count()) < host.slots:
        raise ConfigurationError(
            f"the hostfile gives {host.name} {counted(host.slots, 'slot')}, but it has {counted(count, 'GPU')}",
            "request as many GPUs as topology.gpusPerNode says, and see that the driver works (`nvidia-smi`)",
        )
    if torch.cuda._is_in_bad_fork():
        raise InternalError(
            "CUDA was initialized before the ranks were forked", "no module may touch CUDA when imported"
        )


def _nccl_version() -> str | None:
    if not torch.distributed.is_nccl_available():
        return None
    version: Any = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
    return ".".join(str(part) for part in version)


def _torch_architectures() -> list[str]:
    # torch.cuda.get_arch_list() is empty on a machine without GPUs, whatever torch was built for.
    flags = torch._C._cuda_getArchFlags() if torch.version.cuda else None
    return flags.split() if flags else []


def _gpus() -> list[str]:
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [f"{device.name} sm_{device.major}{device.minor}" for device in devices]
