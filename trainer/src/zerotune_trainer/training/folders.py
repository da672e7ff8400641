"""The folders that an attempt writes to: whether the result is there, else made its own before anything is written."""

from __future__ import annotations

import logging
from pathlib import Path

from zerotune_trainer import collectives
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.context import RankContext
from zerotune_trainer.manifest import MANIFEST_NAME, Manifest, missing_files, sizes_in
from zerotune_trainer.ownership import Ownership, complete_manifest, open_output, writing_errors
from zerotune_trainer.storage import Folder, file_sizes
from zerotune_trainer.training.drafts import discard_other_staging, staging_folder

_MOST_NAMED = 10
_log = logging.getLogger(__name__)


def finished(output: Folder, config: TrainConfig, plugin_digest: str | None = None) -> Manifest | None:
    """The manifest of a job that has finished, where all its files are there, by name and size.

    One whose files are not is removed: the job is not finished.

    Args:
        output: The output folder.
        config: The job.
        plugin_digest: As in `complete_manifest`.

    Raises:
        ConfigurationError: the folder holds the result of another job, or of this one with another configuration.
    """
    manifest = complete_manifest(output, config, plugin_digest)
    if manifest is None:
        return None
    sizes = file_sizes(output.uri) if output.is_staged else sizes_in(output.local, manifest)
    missing = missing_files(manifest, sizes)
    if not missing:
        return manifest
    names = ", ".join(missing[:_MOST_NAMED])
    _log.warning("%s is made again, its result is not whole: missing or of another size: %s", output.uri, names)
    with writing_errors(output.uri):
        output.remove(MANIFEST_NAME)
    return None


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
