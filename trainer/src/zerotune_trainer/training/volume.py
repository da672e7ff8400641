"""Whether the checkpoints of a job will fit the disk that they are written to."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import torch

_log = logging.getLogger(__name__)


def warn_on_volume(folder: Path, parameters: int, dtype: torch.dtype, limit: int) -> None:
    """Warn where the checkpoints that are kept, and the one being written, will not fit the disk.

    A checkpoint holds the weights in the dtype of training, and in fp32 master weights and AdamW's two moments.
    """
    checkpoint_bytes = parameters * (dtype.itemsize + 3 * torch.float32.itemsize)
    needed, free = checkpoint_bytes * (limit + 1), shutil.disk_usage(folder).free
    if needed > free:
        _log.warning(
            "checkpoints will take about %.1f GB (%d and the one being written, %.1f GB each); %s has %.1f GB free: "
            "%sgive a larger volume",
            needed / 1e9,
            limit,
            checkpoint_bytes / 1e9,
            folder,
            free / 1e9,
            "lower checkpoint.saveTotalLimit or " if limit > 1 else "",
        )
