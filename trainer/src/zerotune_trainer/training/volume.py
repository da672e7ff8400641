"""Whether the checkpoints of a job will fit the disk that they are written to."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from zerotune_trainer.progress import Reporter


def warn_on_volume(folder: Path, parameters: int, dtype: torch.dtype, limit: int, report: Reporter) -> None:
    """Warn where the checkpoints that are kept, and the one being written, will not fit the disk.

    A checkpoint holds the weights in the dtype of training, and in fp32 master weights and AdamW's two moments.
    """
    checkpoint_bytes = parameters * (dtype.itemsize + 3 * torch.float32.itemsize)
    needed, free = checkpoint_bytes * (limit + 1), shutil.disk_usage(folder).free
    if needed > free:
        fewer = "lower checkpoint.saveTotalLimit or " if limit > 1 else ""
        report.warning(
            f"checkpoints will take about {needed / 1e9:.1f} GB ({limit} and the one being written, "
            f"{checkpoint_bytes / 1e9:.1f} GB each); {folder} has {free / 1e9:.1f} GB free: {fewer}give a larger volume"
        )
