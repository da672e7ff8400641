"""The process group of all ranks, and the proof that they run where the hostfile says."""

from __future__ import annotations

import os
import socket
from collections import Counter
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d
from torch.distributed.distributed_c10d import Store

from zerotune_trainer import collectives, compat
from zerotune_trainer.addresses import address_of
from zerotune_trainer.config import Launch
from zerotune_trainer.context import RankContext
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.progress import TopologyEntry
from zerotune_trainer.without_mlflow import deepspeed

_SECONDS_FOR_THE_LAUNCHER = 30
_PATIENCE = timedelta(days=7)
"""How long ranks wait for one that works alone, such as one that downloads a model or uploads the output. The launchers
and the platform notice a rank that hangs or died meanwhile."""


def init_process_group(context: RankContext, launch: Launch, store: Store) -> list[TopologyEntry]:
    """Start the process group of all ranks and prove that they run where the hostfile says.

    Args:
        context: The rank.
        launch: Its settings.
        store: That of the rendezvous. Ranks are ready after it at different times, some much later than others.

    Returns:
        Where every rank runs, in rank order. Rank 0 also reports it.

    Raises:
        ConfigurationError: the ranks do not agree with the hostfile, or a network interface is missing.
    """
    store.set(_READY.format(context.rank), "")
    store.wait([_READY.format(rank) for rank in range(context.world_size)], _PATIENCE)
    compat.plain_object_collectives()
    if launch.accelerator == "cuda":
        torch.cuda.set_device(context.local_rank)
    else:
        compat.without_shm_op()
    _use_loopback(context.host.name)
    check_interfaces()
    _start_groups(context, launch, store)
    return _prove_topology(context, launch)


def destroy_process_group() -> None:
    """Wait for all ranks, then end the process group."""
    collectives.barrier()
    dist.destroy_process_group()


def _start_groups(context: RankContext, launch: Launch, store: Store) -> None:
    backend = "nccl" if launch.accelerator == "cuda" else "gloo"
    # The launcher is to find a hang first: it knows which rank it is, a collective does not.
    timeout = timedelta(seconds=launch.hang_timeout_seconds + _SECONDS_FOR_THE_LAUNCHER)
    # DeepSpeed trains over groups of its own, to which it gives no timeout: torch's default is 10 minutes for NCCL.
    distributed_c10d.default_pg_timeout = timeout
    distributed_c10d.default_pg_nccl_timeout = timeout  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=context.rank, world_size=context.world_size, timeout=timeout)
    deepspeed.init_distributed(dist_backend=backend, verbose=False)
    collectives.start(_PATIENCE)


_READY = "rank {} is ready"


def _use_loopback(host: str) -> None:
    """Bind gloo to the loopback device where hosts are loopback addresses: this machine's name may lead elsewhere."""
    if address_of(host).is_loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def check_interfaces() -> None:
    """See that the interfaces that GLOO_SOCKET_IFNAME names are there: gloo says of others that an address is missing.

    Raises:
        ConfigurationError: one is not.
    """
    there = [name for _, name in socket.if_nameindex()]
    for name in filter(None, os.environ.get("GLOO_SOCKET_IFNAME", "").split(",")):
        if name not in there:
            raise ConfigurationError(
                f"GLOO_SOCKET_IFNAME names the network interface {name!r}, and {socket.gethostname()} has "
                f"{', '.join(there)}",
                "name one of these, or leave the variable out: gloo then takes that of the host's own name",
            )


def _prove_topology(context: RankContext, launch: Launch) -> list[TopologyEntry]:
    entry = TopologyEntry(
        rank=dist.get_rank(),
        local_rank=context.local_rank,
        host=context.host.name,
        hostname=socket.gethostname(),
        device=_device(context, launch),
        pid=os.getpid(),
    )
    entries = collectives.gather(entry, TopologyEntry)
    problems = topology_problems(context.hostfile, entries)
    if problems:
        raise ConfigurationError(
            "the ranks do not run where the hostfile says: " + "; ".join(problems),
            "start every host from the same folder, one launcher a host, with as many devices as its slots",
        )
    if context.rank == 0:
        context.report.topology(entries)
    return entries


def topology_problems(hostfile: Hostfile, entries: list[TopologyEntry]) -> list[str]:
    """What does not agree between the hostfile and where the ranks say that they run, a sentence each."""
    problems: list[str] = []
    if len(entries) != hostfile.world_size:
        problems.append(f"{counted(len(entries), 'rank')} joined, the hostfile has {hostfile.world_size}")
    for rank, entry in enumerate(entries[: hostfile.world_size]):
        host = hostfile.host_of_rank(rank)
        if (entry.host, entry.local_rank) != (host.name, rank - host.first_rank):
            problems.append(
                f"rank {rank} runs as {entry.local_rank} on {entry.host}, not {rank - host.first_rank} on {host.name}"
            )
    devices = Counter((entry.host, entry.device) for entry in entries if entry.device != "cpu")
    problems += [f"{count} ranks share {device} of {host}" for (host, device), count in devices.items() if count > 1]
    return problems


def _device(context: RankContext, launch: Launch) -> str:
    if launch.accelerator == "cpu":
        return "cpu"
    properties = torch.cuda.get_device_properties(context.local_rank)
    return f"cuda:{context.local_rank} {properties.name}"
