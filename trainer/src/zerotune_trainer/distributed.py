"""How the ranks find each other, prove where they run, and agree while they train."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import deepspeed
import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from zerotune_trainer import compat
from zerotune_trainer.config import Launch
from zerotune_trainer.context import RankContext
from zerotune_trainer.errors import ConfigurationError, PeerLostError, TemporaryError, ZerotuneError
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.launching.resolve import address_of
from zerotune_trainer.progress import TopologyEntry

T = TypeVar("T")

_SECONDS_FOR_THE_LAUNCHER = 30
_PATIENCE = timedelta(days=7)
"""How long ranks wait for one that works alone, such as one that downloads a model or uploads the output. The launchers
and the platform notice a rank that hangs or died meanwhile."""

_control: Any = None
"""The group, in host memory, of what the ranks tell each other beside training: its waits may be long."""


def rendezvous(context: RankContext, launch: Launch) -> torch._C._distributed_c10d.Store:
    """Find the other ranks: before any work, so that hosts which do not reach each other are found out early.

    Returns:
        The store at which the ranks met, all of them, with the same hostfile. `init_process_group` needs it.

    Raises:
        PeerLostError: not all ranks came within `launch.rendezvous_timeout_seconds`.
        ConfigurationError: this rank has another hostfile than rank 0.
        TemporaryError: the port is in use.
    """
    patience = timedelta(seconds=launch.rendezvous_timeout_seconds)
    place = f"{context.hostfile.master.name}:{launch.master_port}"
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            context.hostfile.master.name,
            launch.master_port,
            is_master=context.rank == 0,
            timeout=patience,
            wait_for_workers=False,
        )
        _show_hostfile(context, store)
        store.wait(_keys(_HOSTFILE_OF, context), patience)
    except dist.DistNetworkError as error:
        if "EADDRINUSE" in str(error):
            raise TemporaryError(
                f"{place} is in use", "another job runs there: run again, and another port is chosen"
            ) from error
        raise PeerLostError(f"rank {context.rank} does not reach rank 0 at {place}: {error}", _SEE_OTHERS) from error
    except dist.DistStoreError as error:
        raise PeerLostError(
            f"{_absent(context, store)} did not come to {place} within {patience.seconds} s", _SEE_OTHERS
        ) from error
    return store


def init_process_group(
    context: RankContext, launch: Launch, store: torch._C._distributed_c10d.Store
) -> list[TopologyEntry]:
    """Start the process group of all ranks and prove that they run where the hostfile says.

    Args:
        context: The rank.
        launch: Its settings.
        store: Where the ranks met. They come from there when they are ready, some much later than others.

    Returns:
        Where every rank runs, in rank order. Rank 0 also reports it.

    Raises:
        ConfigurationError: the ranks do not agree with the hostfile.
    """
    store.set(_READY.format(context.rank), "")
    store.wait(_keys(_READY, context), _PATIENCE)
    if launch.accelerator == "cuda":
        torch.cuda.set_device(context.local_rank)
    else:
        compat.without_shm_op()
    _use_loopback(context.host.name)
    _start_groups(context, launch, store)
    return _prove_topology(context, launch)


def destroy_process_group() -> None:
    """Wait for all ranks, then end the process group."""
    barrier()
    dist.destroy_process_group()


def _start_groups(context: RankContext, launch: Launch, store: torch._C._distributed_c10d.Store) -> None:
    global _control
    backend = "nccl" if launch.accelerator == "cuda" else "gloo"
    # The launcher is to find a hang first: it knows which rank it is, a collective does not.
    timeout = timedelta(seconds=launch.hang_timeout_seconds + _SECONDS_FOR_THE_LAUNCHER)
    # DeepSpeed trains over groups of its own, to which it gives no timeout: torch's default is 10 minutes for NCCL.
    distributed_c10d.default_pg_timeout = timeout
    distributed_c10d.default_pg_nccl_timeout = timeout  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=context.rank, world_size=context.world_size, timeout=timeout)
    deepspeed.init_distributed(dist_backend=backend, verbose=False)
    _control = dist.new_group(backend="gloo", timeout=_PATIENCE)


_HOSTFILE_OF = "hostfile of rank {}"
_READY = "rank {} is ready"
_SEE_OTHERS = "see why that host or rank did not start, and that the hosts reach each other"


def _keys(of_rank: str, context: RankContext) -> list[str]:
    return [of_rank.format(rank) for rank in range(context.world_size)]


def _show_hostfile(context: RankContext, store: Any) -> None:
    """Show the others this rank's hostfile, and see that rank 0 has the same.

    Raises:
        ConfigurationError: it has another.
    """
    mine = context.hostfile.render()
    store.set(_HOSTFILE_OF.format(context.rank), mine)
    first = store.get(_HOSTFILE_OF.format(0)).decode()
    if first != mine:
        raise ConfigurationError(
            f"rank {context.rank} on {context.host.name} has the hostfile {mine!r}, rank 0 has {first!r}",
            "give every host the same folder",
        )


def _absent(context: RankContext, store: Any) -> str:
    absent = [rank for rank in range(context.world_size) if not store.check([_HOSTFILE_OF.format(rank)])]
    return ", ".join(f"rank {rank} on {context.hostfile.host_of_rank(rank).name}" for rank in absent)


def _use_loopback(host: str) -> None:
    """Bind gloo to the loopback device where hosts are loopback addresses: this machine's name may lead elsewhere."""
    if address_of(host).is_loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def _prove_topology(context: RankContext, launch: Launch) -> list[TopologyEntry]:
    entry = TopologyEntry(
        rank=dist.get_rank(),
        local_rank=context.local_rank,
        host=context.host.name,
        hostname=socket.gethostname(),
        device=_device(context, launch),
        pid=os.getpid(),
    )
    entries = gather(entry)
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
        problems.append(f"{len(entries)} ranks came, the hostfile has {hostfile.world_size}")
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


class StepSync:
    """What the ranks tell each other once a step: whether one was asked to stop, and how many tokens each trained on.

    The exchange runs beside the forward and backward pass, on a group of its own in host memory, so that a step
    waits neither for it nor for the device.
    """

    def __init__(self, timeout: timedelta) -> None:
        self._group: Any = dist.new_group(backend="gloo", timeout=timeout)
        self._sums = torch.zeros(2, dtype=torch.int64)
        self._work: dist.Work | None = None

    def start(self, *, stop: bool, tokens: int) -> None:
        """Start telling the others. Every rank calls this at the same point."""
        self._sums = torch.tensor([int(stop), tokens], dtype=torch.int64)
        self._work = dist.all_reduce(self._sums, group=self._group, async_op=True)

    def wait(self) -> tuple[bool, int]:
        """Whether any rank was asked to stop, and the tokens of all ranks."""
        assert self._work is not None, "start() comes first"
        self._work.wait()
        stops, tokens = self._sums.tolist()
        return stops > 0, tokens


def on_first_rank(action: Callable[[], T]) -> T:
    """Do something on rank 0 and give its result, or its error, to every rank.

    Raises:
        ZerotuneError, OSError: what `action` raised.
    """
    outcome: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            outcome = [(action(), None)]
        except (ZerotuneError, OSError) as error:
            outcome = [(None, error)]
    dist.broadcast_object_list(outcome, src=0, group=_control)
    result, failure = outcome[0]
    if failure is not None:
        raise failure
    return cast(T, result)


def gather(value: T) -> list[T]:
    """The value of every rank, in rank order, on every rank."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value, group=_control)
    return values


def barrier() -> None:
    """Wait until every rank is here, however long one of them works alone before."""
    dist.barrier(group=_control)


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank."""
    return any(gather(flag))
