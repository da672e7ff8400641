"""DeepSpeed's operator async_io for tests. Imported in a process that ranks are forked from, this gives it to them."""

from __future__ import annotations

from zerotune_devtools.compiled import kept, libaio
from zerotune_trainer.without_mlflow import deepspeed  # noqa: F401 - before its parts

# isort: split
from deepspeed.ops.op_builder import PinMemoryBuilder

_PIN_MEMORY, _ASYNC_IO = ["pin_memory"], ["async_io"]


def keep_async_io() -> None:
    """Compile the operator unless it is kept, in minutes; then give it to this process.

    Raises:
        subprocess.CalledProcessError: it does not compile.
    """
    kept.keep(_PIN_MEMORY + _ASYNC_IO, libaio.compile_async_io)
    load()


def load() -> None:
    """Give the operator to this process, and to those forked from it, where it is kept."""
    if not kept.are_kept(_PIN_MEMORY + _ASYNC_IO):
        return
    kept.load(_PIN_MEMORY)
    PinMemoryBuilder().load()  # Makes its symbols known to async_io.
    kept.load(_ASYNC_IO)


load()
