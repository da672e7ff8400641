"""What a rank knows about itself. Torch-free."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from zerotune_trainer.hostfile import Host, Hostfile
from zerotune_trainer.progress import Reporter


@dataclass(frozen=True)
class RankContext:
    """A rank's place among the others, its line to the launcher, and whether it was asked to stop."""

    folder: Path
    """The read-only folder of the job: `config.json`, `hostfile`, `deepspeed.json`."""
    hostfile: Hostfile
    host: Host
    local_rank: int
    report: Reporter
    stop: threading.Event
    """Set when SIGTERM arrives: finish the step, agree with the other ranks, save, raise StoppedError."""
    replica: int = 0
    """Which of the job's replicas the rank is of. The hostfile, the ranks and their number are this replica's."""
    replicas: int = 1
    """How many the job has."""

    @property
    def rank(self) -> int:
        """The global rank."""
        return self.host.first_rank + self.local_rank

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return self.hostfile.world_size
