"""The hostfile: which hosts a job has, in rank order, and how many ranks each runs.

Of a job with several replicas it has the hosts of the first one, then those of the second, and so on.

One line a host, `NAME slots=N`, in DeepSpeed's format (deepspeed/launcher/runner.py); `#` and blank lines are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ConfigurationError

_LINE = re.compile(r"^(?P<name>\S+)\s+slots=(?P<slots>[1-9]\d*)$")


@dataclass(frozen=True)
class Host:
    """A host, the ranks it runs (`slots`) and the first of them."""

    name: str
    slots: int
    first_rank: int

    @property
    def ranks(self) -> range:
        """The global ranks on this host."""
        return range(self.first_rank, self.first_rank + self.slots)


@dataclass(frozen=True)
class Hostfile:
    """All hosts of a job, in rank order."""

    hosts: tuple[Host, ...]

    @classmethod
    def of(cls, slots_by_name: Iterable[tuple[str, int]]) -> Hostfile:
        """Number the ranks of `(name, slots)` pairs in the order given.

        Raises:
            ConfigurationError: no host, or one named twice.
        """
        hosts: dict[str, Host] = {}
        ranks = 0
        for name, slots in slots_by_name:
            if name in hosts:
                raise ConfigurationError(f"hostfile names {name!r} twice", "write each host once, with all its slots")
            hosts[name] = Host(name, slots, ranks)
            ranks += slots
        if not hosts:
            raise ConfigurationError("hostfile names no host", "write one line a host: NAME slots=N")
        return cls(tuple(hosts.values()))

    @classmethod
    def parse(cls, text: str) -> Hostfile:
        """Read a hostfile.

        Raises:
            ConfigurationError: no host, one named twice, or a line that is not `NAME slots=N`.
        """
        return cls.of(_parse_line(number, line) for number, line in _significant_lines(text))

    def render(self) -> str:
        """The text that `parse` reads back."""
        return "".join(f"{host.name} slots={host.slots}\n" for host in self.hosts)

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return sum(host.slots for host in self.hosts)

    @property
    def master(self) -> Host:
        """The host of rank 0, where the process group meets."""
        return self.hosts[0]

    def host(self, name: str) -> Host:
        """The host of that name; a host's own short name stands for its qualified one (`a` for `a.svc`).

        Raises:
            ConfigurationError: no such host.
        """
        for host in self.hosts:
            if host.name == name or host.name.partition(".")[0] == name:
                return host
        names = ", ".join(host.name for host in self.hosts)
        raise ConfigurationError(
            f"this host is {name!r}, but the hostfile names {names}", "start the launcher on a host that is listed"
        )

    def replica_of(self, host: Host, replicas: int) -> int:
        """Which of the job's replicas a host is of: each has as many neighbouring hosts.

        Raises:
            ConfigurationError: the hosts do not divide into replicas.
        """
        if len(self.hosts) % replicas:
            raise ConfigurationError(
                f"the hostfile names {len(self.hosts)} hosts, which do not divide into {replicas} replicas",
                "write topology.nodes hosts for each of topology.replicas",
            )
        return self.hosts.index(host) // (len(self.hosts) // replicas)

    def of_replica(self, number: int, replicas: int) -> Hostfile:
        """The hosts of one of the job's replicas, which is a world of its own: its ranks count from 0."""
        nodes = len(self.hosts) // replicas
        return Hostfile.of((host.name, host.slots) for host in self.hosts[number * nodes : (number + 1) * nodes])

    def host_of_rank(self, rank: int) -> Host:
        """The host that runs a global rank.

        Raises:
            ConfigurationError: no such rank.
        """
        for host in self.hosts:
            if rank in host.ranks:
                return host
        raise ConfigurationError(f"rank {rank} is not in a hostfile of {counted(self.world_size, 'rank')}")


def _significant_lines(text: str) -> Iterable[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.partition("#")[0].strip()
        if stripped:
            yield number, stripped


def _parse_line(number: int, line: str) -> tuple[str, int]:
    match = _LINE.match(line)
    if match is None:
        raise ConfigurationError(f"hostfile:{number}: {line!r} is not NAME slots=N", "for example: worker-0 slots=8")
    return match["name"], int(match["slots"])
