"""Ranks of a real job of which one takes its time. The file `pace` of its folder names one of `PACES`."""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

DATA_SECONDS = 8
OUTPUT_SECONDS = 14


def even(rank: int) -> None:
    """All ranks are equally fast."""


def slow_data(rank: int) -> None:
    """Rank 0 prepares its data for long, as one does that downloads a model over a slow line."""
    from zerotune_trainer import data

    if rank == 0:
        data.prepare = _late(data.prepare, DATA_SECONDS)


def slow_output(rank: int) -> None:
    """Rank 0 writes the output for long, as one does that uploads it."""
    from zerotune_trainer.training import output

    if rank == 0:
        output.write_report = _late(output.write_report, OUTPUT_SECONDS)


def slow_step(rank: int) -> None:
    """Rank 0 comes late to a collective of training."""
    from zerotune_trainer.training.trainer import CausalTrainer

    if rank == 0:
        CausalTrainer.training_step = _late(CausalTrainer.training_step, OUTPUT_SECONDS)


PACES = {pace.__name__: pace for pace in (even, slow_data, slow_output, slow_step)}


def run_paced_rank(folder: Path, host: str, local_rank: int, pipe: Connection) -> None:
    """`worker.run_rank` at a pace, and with a process group that waits no longer than `hangTimeoutSeconds`."""
    from zerotune_trainer import distributed
    from zerotune_trainer.hostfile import Hostfile
    from zerotune_trainer.launching.worker import run_rank

    distributed._SECONDS_FOR_THE_LAUNCHER = 0
    rank = Hostfile.parse((folder / "hostfile").read_text()).host(host).first_rank + local_rank
    PACES[(folder / "pace").read_text()](rank)
    run_rank(folder, host, local_rank, pipe)


def _late(action: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def act(*arguments: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return action(*arguments, **options)

    return act
