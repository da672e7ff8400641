"""Plan -> what one attempt starts on this machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zerotune_operator.backends.local.job_folder import AttemptFolder
from zerotune_operator.plan import Plan


@dataclass(frozen=True)
class NodeProcess:
    """One node: a `zerotune-launch` of its own, on a loopback address of its own."""

    host: str
    command: tuple[str, ...]
    environment: dict[str, str]
    """Variables the process gets besides those of the runner."""
    log: Path
    termination_message: Path


@dataclass(frozen=True)
class LocalAttempt:
    """The files and processes of one attempt."""

    number: int
    folder: Path
    files: dict[str, str]
    """What the nodes read, by name: `config.json`, `hostfile`, `deepspeed.json`."""
    nodes: tuple[NodeProcess, ...]
    progress_port: int


def render(plan: Plan, folder: AttemptFolder, launcher: str, devices: Sequence[str]) -> LocalAttempt:
    """What to start for `plan`: `launcher` once a node, each with its share of the CUDA `devices`."""
    hosts = plan.hostfile.hosts
    return LocalAttempt(
        number=plan.config.job.attempt,
        folder=folder.path,
        files=plan.artifacts(),
        nodes=tuple(
            NodeProcess(
                host=host.name,
                command=_command(launcher, folder, index, host.name),
                environment=_environment(devices, host.ranks),
                log=folder.log(index),
                termination_message=folder.termination_message(index),
            )
            for index, host in enumerate(hosts)
        ),
        progress_port=plan.config.launch.progress_port,
    )


def _command(launcher: str, folder: AttemptFolder, node: int, host: str) -> tuple[str, ...]:
    message = str(folder.termination_message(node))
    return (launcher, str(folder.path), "--host", host, "--termination-log", message, "--stop-on-eof")


def _environment(devices: Sequence[str], ranks: range) -> dict[str, str]:
    if not devices:
        return {}
    # CUDA counts the fastest first unless it is set to count as nvidia-smi does.
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(devices[rank] for rank in ranks)}
