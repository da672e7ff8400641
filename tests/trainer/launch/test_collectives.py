"""What ranks exchange is data: two real processes over gloo, one of which sends what runs code when it is unpickled."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_RANKS = """
import math, os, sys
from datetime import timedelta
from pathlib import Path
import torch.distributed as dist
from pydantic import ValidationError
from zerotune_trainer import collectives, compat
from zerotune_trainer.errors import DataError
from zerotune_trainer.progress import TopologyEntry

folder = Path(sys.argv[1])
rank = 1 if os.fork() == 0 else 0
store = dist.FileStore(str(folder / "store"), 2)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
compat.plain_object_collectives()
collectives.start(timedelta(seconds=60))

class Touches:
    def __reduce__(self):
        return Path.touch, (folder / "touched",)

def of_library():
    values = [None, None]
    dist.all_gather_object(values, {"step": rank, "shape": (1, 2)})
    assert values == [{"step": 0, "shape": (1, 2)}, {"step": 1, "shape": (1, 2)}], values
    try:
        dist.all_gather_object(values, Touches() if rank == 1 else "plain")
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def of_ours():
    entry = TopologyEntry(rank=rank, local_rank=0, host="a" * (rank + 1), hostname="h", device="cpu", pid=rank)
    assert [each.host for each in collectives.gather(entry, TopologyEntry)] == ["a", "aa"]
    losses = collectives.gather({rank: math.nan if rank else 1.5}, dict[int, float])
    assert losses[0] == {0: 1.5} and math.isnan(losses[1][1]), losses
    assert collectives.any_rank(rank == 1) and not collectives.any_rank(False)
    assert collectives.on_first_rank(lambda: ("x", [1]), tuple[str, list[int]]) == ("x", [1])
    try:
        collectives.gather("text" if rank else 1, str if rank else int)
    except ValidationError as error:
        rejected = error.error_count()
    try:
        collectives.on_first_rank(lambda: fail(), type(None))
    except DataError as error:
        return rejected, error.message, error.hint

def fail():
    raise DataError("part-1.jsonl:3: not JSON", "mend the line")

found = of_library(), of_ours()
(folder / f"rank-{rank}").write_text(repr(found))
dist.barrier()
os._exit(0)
"""


def test_no_rank_runs_what_another_sends(tmp_path: Path) -> None:
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", textwrap.dedent(_RANKS), str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not (tmp_path / "touched").exists()
    for rank in range(2):
        of_library, of_ours = eval((tmp_path / f"rank-{rank}").read_text())
        assert of_library.startswith("UnpicklingError: another rank sent an object of pathlib.")
        assert of_ours == (1, "part-1.jsonl:3: not JSON", "mend the line")
