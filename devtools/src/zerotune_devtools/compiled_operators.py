"""DeepSpeed's operator async_io, compiled once on a machine: torch keeps what it compiles by its paths, and would
compile it anew, for ten minutes, for each checkout. Here it is kept by the versions of what it is compiled from.

Imported in a process that ranks are forked from, this gives them the operator.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path

from zerotune_devtools import libaio
from zerotune_devtools.checkout import extensions_folder
from zerotune_trainer.without_mlflow import deepspeed  # noqa: F401 - before its parts

# isort: split
from deepspeed.ops.op_builder import PinMemoryBuilder
from deepspeed.ops.op_builder.builder import OpBuilder

_NAMES = ("pin_memory", "async_io")
"""In the order in which they are loaded: the second takes symbols of the first."""


def keep_async_io() -> None:
    """Compile the operator unless it is kept, in minutes; then give it to this process.

    Raises:
        subprocess.CalledProcessError: it does not compile.
    """
    if not _kept().is_dir():
        libaio.compile_async_io()
        with tempfile.TemporaryDirectory(dir=extensions_folder()) as scratch:
            whole = Path(scratch) / "kept"
            whole.mkdir()
            for name in _NAMES:
                shutil.copy(extensions_folder() / name / f"{name}.so", whole)
            whole.rename(_kept())
    load()


def load() -> None:
    """Give the operator to this process, and to those forked from it, where it is kept."""
    if not _kept().is_dir():
        return
    for name in _NAMES:
        spec = importlib.util.spec_from_file_location(name, _kept() / f"{name}.so")
        assert spec is not None and spec.loader is not None
        OpBuilder._loaded_ops[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        PinMemoryBuilder().load()  # Makes its symbols known to what is loaded next.


def _kept() -> Path:
    """Apart from torch's own folders, which change while it compiles."""
    return extensions_folder() / "kept"


load()
