"""Parameters of engine `zero` on the disks of the nodes (ZeRO-Infinity, https://arxiv.org/abs/2104.07857).

DeepSpeed writes each rank's partition of a parameter to a file, and reads it back into a buffer when a module needs it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import CDLL
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from zerotune_trainer.async_io import check_locked_memory
from zerotune_trainer.compat import keep_in_cpu
from zerotune_trainer.errors import ConfigurationError, TemporaryError
from zerotune_trainer.sizing.offload import SMALLEST_OFFLOADED, Buffers, Share
from zerotune_trainer.sizing.workload import gib

AIO = {"block_size": SMALLEST_OFFLOADED, "queue_depth": 32, "single_submit": False, "overlap_events": True}
"""How DeepSpeed reads and writes: what is smaller than a block is not offloaded."""

_M_MMAP_THRESHOLD = -3
"""As malloc.h has it."""


class OffloadFolder:
    """Where a rank keeps its partitions of the parameters, and nobody else anything.

    Args:
        path: The folder. What an earlier attempt has left there is removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.remove()

    def prepare(self, model: nn.Module, dtype: torch.dtype, ranks: int, ranks_here: int) -> dict[str, Any]:
        """Make the folder, and see that it can take what the rank is to write.

        Args:
            model: The model, without memory for its weights.
            dtype: What the weights are to be.
            ranks: Ranks that share the weights.
            ranks_here: Those of them that write to this disk.

        Returns:
            `offload_param` of the DeepSpeed settings.

        Raises:
            ConfigurationError: its file system has no direct I/O, or buffers cannot be locked in memory.
            TemporaryError: the disk has too little space at the moment.
        """
        _require_direct_io(self.path)
        part = -(-sum(each.numel() for each in model.parameters()) // ranks)
        _require_space(self.path, dtype.itemsize * part * ranks_here)
        buffers = buffers_of(model, dtype, ranks)
        check_locked_memory(dtype.itemsize * buffers.count * buffers.size)
        _return_freed_memory()
        return {
            "device": "nvme",
            "nvme_path": str(self.path),
            "buffer_count": buffers.count,
            "buffer_size": buffers.size,
        }

    @contextmanager
    def filling(self, model: nn.Module, ranks: int, max_in_cpu: int) -> Iterator[None]:
        """While the model is loaded, keep some of the parameters in memory: every so many, as the disk is then read
        while the device computes with them.

        Args:
            model: The model, without memory for its weights.
            ranks: Ranks that share the weights.
            max_in_cpu: Numbers that this rank may keep.
        """
        share = Share(max_in_cpu, sum(-(-each.numel() // ranks) for each in model.parameters()))
        with keep_in_cpu(share.take):
            yield

    def close(self, model: PreTrainedModel) -> None:
        """Wait for what is being read or written of a model, give its buffers back, which nothing else does, and delete
        the folder."""
        swapper: Any = next(model.parameters()).nvme_swapper  # type: ignore[attr-defined]
        swapper.synchronize_reads()
        swapper.synchronize_writes()
        swapper.aio_read_handle.free_cpu_locked_tensor(swapper.buffers)
        self.remove()

    def remove(self) -> None:
        """Delete the folder, where it is there."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.path)


def buffers_of(model: nn.Module, dtype: torch.dtype, ranks: int) -> Buffers:
    """The buffers that a rank needs to run a model: one for each parameter that is there at once, and one for the next.

    Args:
        model: May be without memory for its weights.
        dtype: Of the weights.
        ranks: Ranks that share them.
    """
    parts = [-(-each.numel() // ranks) for each in model.parameters()]
    return Buffers(1 + _most_at_once(model, SMALLEST_OFFLOADED // dtype.itemsize, ranks), max(parts))


def _most_at_once(module: nn.Module, smallest: int, ranks: int) -> int:
    """Parameters on disk that a module and those within it need at once: its own are there until all of it has run."""
    own = sum(-(-each.numel() // ranks) >= smallest for each in module.parameters(recurse=False))
    return own + max((_most_at_once(child, smallest, ranks) for child in module.children()), default=0)


def _return_freed_memory() -> None:
    """Have glibc map every large allocation by itself, and unmap it when it is freed.

    By default those below 32 MiB are of its heap once one of their size was freed (M_MMAP_THRESHOLD of mallopt(3)), and
    what loading leaves between them keeps them there: 1.2 GiB of a model of 3.1 GiB that lies on disk.
    """
    CDLL(None).mallopt(_M_MMAP_THRESHOLD, SMALLEST_OFFLOADED)


def _require_direct_io(folder: Path) -> None:
    file = folder / "direct"
    try:
        folder.mkdir(parents=True)
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_DIRECT, 0o600))
    except OSError as error:
        has_none = error.errno == errno.EINVAL
        raise ConfigurationError(
            f"zero.offloadParam: nvme needs direct I/O, which the file system of {folder} does not have"
            if has_none
            else f"zero.offloadParam: nvme: {folder} cannot be written: {error.strerror}",
            "let the folder lie on a disk that the job may write to, and not in memory (tmpfs)",
        ) from error
    file.unlink()


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TemporaryError(
            f"zero.offloadParam: nvme writes {gib(needed)} of parameters to {folder}, where {gib(free)} are free",
            "free some space there, use nodes with larger disks, or use more nodes",
        )
