"""What the ranks of these tests run: `worker.run_rank`, with an environment and a log of its own."""

from __future__ import annotations

import json
import os
from multiprocessing.connection import Connection
from pathlib import Path

LOG_NAME = "log"
ENVIRONMENT_NAME = "environment.json"


def run_logged_rank(folder: Path, host: str, local_rank: int, pipe: Connection) -> None:
    """Print to the job's log, which all its ranks share, and see what `environment.json` says."""
    from zerotune_trainer.launching.worker import run_rank

    log = os.open(folder.parent / LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(json.loads((folder.parent / ENVIRONMENT_NAME).read_text()))
    run_rank(folder, host, local_rank, pipe)
