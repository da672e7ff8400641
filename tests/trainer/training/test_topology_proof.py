"""What the topology proof finds."""

from __future__ import annotations

import pytest

from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.progress import TopologyEntry

HOSTFILE = Hostfile.of([("a", 2), ("b", 1)])


def entry(rank: int, local_rank: int, host: str, device: str = "cpu") -> TopologyEntry:
    return TopologyEntry(rank=rank, local_rank=local_rank, host=host, hostname=host, device=device, pid=1)


@pytest.mark.parametrize(
    ("entries", "problems"),
    [
        ([entry(0, 0, "a"), entry(1, 1, "a"), entry(2, 0, "b")], []),
        ([entry(0, 0, "a", "cuda:0 X"), entry(1, 1, "a", "cuda:1 X"), entry(2, 0, "b", "cuda:0 X")], []),
        (
            [entry(0, 0, "a"), entry(1, 0, "b"), entry(2, 0, "b")],
            ["rank 1 runs as 0 on b, not 1 on a"],
        ),
        ([entry(0, 0, "a"), entry(1, 1, "a")], ["2 ranks joined, the hostfile has 3"]),
        (
            [entry(0, 0, "a", "cuda:0 X"), entry(1, 1, "a", "cuda:0 X"), entry(2, 0, "b", "cuda:0 X")],
            ["2 ranks share cuda:0 X of a"],
        ),
    ],
)
def test_topology_problems(entries: list[TopologyEntry], problems: list[str]) -> None:
    from zerotune_trainer.distributed import topology_problems

    assert topology_problems(HOSTFILE, entries) == problems
