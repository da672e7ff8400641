"""The folders that an attempt writes to, made its own before anything is written."""

from __future__ import annotations

from pathlib import Path

from zerotune_trainer import collectives
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.context import RankContext
from zerotune_trainer.ownership import Ownership, open_output
from zerotune_trainer.training.drafts import discard_other_staging, staging_folder


def acquire(config: TrainConfig, context: RankContext, output: Ownership, cache: Path) -> Ownership:
    """Make the output and the checkpoints the attempt's own, and let every rank know where the checkpoints are.

    Raises:
        ZerotuneError: as `Ownership.acquire`, on every rank.
    """
    collectives.on_first_rank(output.acquire, bool)
    # Hosts of one machine share its cache; what a host stages there for S3 is its own.
    staging = staging_folder(cache / context.host.name, config.job.attempt)
    folder = open_output(config.checkpoint.uri or f"{output.folder.uri}/checkpoints", staging)
    checkpoints = Ownership(folder, config.job)
    collectives.on_first_rank(checkpoints.acquire, bool)
    if context.local_rank == 0:
        discard_other_staging(output.folder)
        discard_other_staging(folder)
    return checkpoints
