"""DeepSpeed's compiled operators, kept by the versions of what they are compiled from: torch keeps what it compiles by
its paths, would compile it anew for each checkout, and waits for ever for the lock of a process that was killed at it.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from zerotune_devtools.checkout import extensions_folder


def keep(names: Sequence[str], compile_into: Callable[[Path], None]) -> None:
    """Have operators compiled, in minutes, unless they are kept.

    Args:
        names: As DeepSpeed names them.
        compile_into: Has torch compile them, into folders of their names in a folder.
    """
    if are_kept(names):
        return
    _folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=extensions_folder()) as scratch:
        compile_into(Path(scratch))
        for name in names:
            Path(scratch, name, f"{name}.so").replace(_file(name))


def load(names: Sequence[str]) -> None:
    """Give operators that are kept to this process, and to those forked from it."""
    from deepspeed.ops.op_builder.builder import OpBuilder

    for name in [name for name in names if name not in OpBuilder._loaded_ops]:
        spec = importlib.util.spec_from_file_location(name, _file(name))
        assert spec is not None and spec.loader is not None
        OpBuilder._loaded_ops[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


def are_kept(names: Sequence[str]) -> bool:
    """Whether they can be loaded."""
    return all(_file(name).is_file() for name in names)


def _file(name: str) -> Path:
    return _folder() / f"{name}.so"


def _folder() -> Path:
    return extensions_folder() / "kept"
