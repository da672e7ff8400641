"""DeepSpeed's operator async_io, which writes parameters to a disk and reads them back: whether a rank can have it."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import CDLL, c_bool, c_int64, c_void_p
from pathlib import Path
from typing import Any, NoReturn

from torch.utils.cpp_extension import _get_build_directory

from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.workload import gib
from zerotune_trainer.without_mlflow import deepspeed

# isort: split
from deepspeed.ops.op_builder import AsyncIOBuilder, PinMemoryBuilder


def check_async_io() -> None:
    """See that the operator is there, or can be compiled: whether libaio and its header are found. Quick.

    Raises:
        ConfigurationError: it is not, and cannot be.
    """
    installed: dict[str, bool] = deepspeed.git_version_info.installed_ops
    if not (installed.get("async_io") or AsyncIOBuilder().is_compatible(verbose=False)):
        raise _refusal("it is not installed, and libaio, of which it is compiled, is not found")


def load_async_io() -> Any:
    """The operator's module; the first time it may be compiled, which takes minutes.

    Raises:
        ConfigurationError: it cannot be compiled or loaded.
    """
    check_async_io()
    try:
        with compiling(["pin_memory", "async_io"]):
            return AsyncIOBuilder().load(verbose=False)
    except (RuntimeError, ImportError, OSError) as error:
        raise _refusal(str(error).splitlines()[0]) from error


@contextmanager
def compiling(names: Sequence[str]) -> Iterator[None]:
    """Let torch compile operators, in one process at a time.

    torch has a lock of its own, a file, and waits for ever for that of a process which was killed as it compiled
    (`torch.utils.file_baton`). One that lies there while nobody else can be compiling is removed.

    Args:
        names: Of the operators, by which torch names their folders.
    """
    folders = [Path(_get_build_directory(name, verbose=False)) for name in names]
    with (folders[0].parent / f"{names[-1]}.compiling").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for folder in folders:
            (folder / "lock").unlink(missing_ok=True)
        yield


def check_locked_memory(size: int) -> None:
    """See that a rank may have buffers of so many bytes that stay in memory: DeepSpeed ends the process otherwise.

    It is tried, by the function that DeepSpeed allocates them with (csrc/pin_memory/page_alloc.cpp): whether it locks
    memory is a matter of how it was compiled, and how much may be locked one of limits and capabilities.

    Raises:
        ConfigurationError: it may not.
    """
    allocate = CDLL(PinMemoryBuilder().load(verbose=False).__file__)["_Z21ds_page_aligned_alloclb"]
    allocate.argtypes, allocate.restype = [c_int64, c_bool], c_void_p
    address = allocate(size, True)
    if address is None:
        raise ConfigurationError(
            f"zero.offloadParam: nvme keeps buffers of {gib(size)} a rank, and so much memory cannot be locked",
            "raise the limit of locked memory (`ulimit -l`), or use zero.offloadParam: cpu",
        )
    free = CDLL(None).free
    free.argtypes = [c_void_p]
    free(address)


def _refusal(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"zero.offloadParam: nvme needs DeepSpeed's operator async_io: {reason}",
        "install libaio with its header (Debian: libaio-dev) and a C++ compiler, run the job in zerotune's trainer "
        "image, which has the operator, or use zero.offloadParam: cpu",
    )


def main() -> NoReturn:
    """`python -m zerotune_trainer.async_io`: exit 0 where the operator is there or can be compiled, else why not."""
    try:
        check_async_io()
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        sys.exit(error.exit_code)
    sys.exit(0)


if __name__ == "__main__":
    main()
