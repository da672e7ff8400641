"""`python -m zerotune_devtools.benchmarks.read_bandwidth FOLDER`: bytes a second that DeepSpeed's operator async_io
reads of a disk, past the page cache (O_DIRECT), with the settings of engine `zero`. One file is read after the other.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from zerotune_trainer.async_io import load_async_io
from zerotune_trainer.engines.offload import AIO

_FILE, _FILES = 43 << 20, 72
"""Bytes of a file, those of a matrix of the benchmark's MLP; and files, together as large as its model by default."""


def main() -> None:
    """Write the files, read them, print the bandwidth, delete them."""
    folder = Path(sys.argv[1])
    folder.mkdir()
    handle = load_async_io().aio_handle(**AIO, intra_op_parallelism=1)
    buffer = handle.new_cpu_locked_tensor(_FILE, torch.empty(0, dtype=torch.uint8))
    files = [str(folder / str(number)) for number in range(_FILES)]
    for file in files:
        _require(handle.async_pwrite(buffer.fill_(1), file, 0) == 0 and handle.wait() == 1)
    began = time.monotonic()
    for file in files:
        _require(handle.async_pread(buffer, file, 0) == 0 and handle.wait() == 1)
    sys.stdout.write(f"\n{_FILE * _FILES / (time.monotonic() - began):.0f}\n")
    for file in files:
        Path(file).unlink()
    folder.rmdir()


def _require(done: bool) -> None:
    if not done:
        sys.exit("the disk cannot be read and written with direct I/O")


if __name__ == "__main__":
    main()
