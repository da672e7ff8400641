"""DeepSpeed's operator async_io, compiled once on a machine: torch keeps what it compiles by its paths, and would
compile it anew, for ten minutes, for each checkout. Here it is kept by the versions of what it is compiled from.

Imported in a process that ranks are forked from, this gives them the operator.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from zerotune_devtools import libaio
from zerotune_devtools.checkout import extensions_folder
from zerotune_trainer.without_mlflow import deepspeed  # noqa: F401 - before its parts

# isort: split
from deepspeed.ops.op_builder import PinMemoryBuilder
from deepspeed.ops.op_builder.builder import OpBuilder

_NAMES = ("pin_memory", "async_io")
"""In the order in which they are loaded: the second takes symbols of the first."""
_COMPILE = "from zerotune_trainer.async_io import load_async_io as load; load()"


def compile_async_io() -> None:
    """Compile the operator unless it is there, in minutes; then give it to this process.

    Raises:
        subprocess.CalledProcessError: it does not compile.
    """
    if not _is_complete().is_file():
        libaio.unpack()
        variables = os.environ | libaio.compiler_variables() | {"TORCH_EXTENSIONS_DIR": str(extensions_folder())}
        subprocess.run([sys.executable, "-c", _COMPILE], check=True, env=variables)
        _is_complete().touch()
    load()


def load() -> None:
    """Give the operator to this process, and to those forked from it, where it has been compiled."""
    if not _is_complete().is_file():
        return
    for name in _NAMES:
        (library,) = extensions_folder().rglob(f"{name}.so")
        spec = importlib.util.spec_from_file_location(name, library)
        assert spec is not None and spec.loader is not None
        OpBuilder._loaded_ops[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        PinMemoryBuilder().load()  # Makes its symbols known to what is loaded next.


def _is_complete() -> Path:
    return extensions_folder() / "async_io-is-complete"


load()
