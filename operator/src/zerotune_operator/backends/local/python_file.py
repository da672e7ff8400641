"""A Python file of the user's, looked at without running any of it: its syntax, and the names that it defines."""

from __future__ import annotations

import ast
import stat
import warnings
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from zerotune_trainer.errors import ConfigurationError, InputMissingError, ZerotuneError

_MOST_BYTES = 16 << 20
"""Far more than code takes; what is read stays bounded, whatever the file is."""
_DYNAMIC = frozenset({"globals", "exec", "setattr", "vars", "locals", "__dict__", "__getattr__"})
"""Names by which a file may define others that cannot be seen in it."""


def python_problem(field: str, path: Path, names: list[str]) -> ZerotuneError | None:
    """What is wrong with a Python file of a job; None where nothing is, as far as its text shows.

    Args:
        field: What names it in the spec: `plugin.file`.
        path: The file.
        names: The functions and classes that the job uses of it.
    """
    try:
        defined = _defined(field, path)
    except ZerotuneError as error:
        return error
    missing = [name for name in names if name not in defined] if defined is not None else []
    return _undefined(field, path, missing[0], sorted(defined or ())) if missing else None


def _undefined(field: str, path: Path, name: str, defined: list[str]) -> InputMissingError:
    close = get_close_matches(name, defined, n=1)
    public = [each for each in defined if not each.startswith("_")]
    listed = f"it defines {', '.join(public) or 'nothing'}"
    return InputMissingError(
        f"{field}: {path} defines no {name!r}", f"did you mean {close[0]!r}? {listed}" if close else listed
    )


def _defined(field: str, path: Path) -> set[str] | None:
    """Names that the file binds at its top level; None where it may bind others that cannot be seen."""
    source = _read(field, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of escapes in its texts.
            tree = ast.parse(source, str(path))
            compile(tree, str(path), "exec")  # Sees a `return` outside of a function, for one.
    except (SyntaxError, ValueError) as error:
        line = f" line {error.lineno}:" if isinstance(error, SyntaxError) and error.lineno else ""
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigurationError(f"{field}: {path} is not Python:{line} {text}", "correct the file") from error
    except (RecursionError, MemoryError) as error:
        raise ConfigurationError(f"{field}: {path} is nested too deep to be Python", "write it flatter") from error
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    bound = set(_bound(tree.body))
    return None if "*" in bound or _DYNAMIC & (used | bound) else bound


def _read(field: str, path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ConfigurationError(f"{field}: {path} is a folder", f"name the Python file: file://{path}/NAME.py")
        if not stat.S_ISREG(mode):
            raise ConfigurationError(f"{field}: {path} is no file, but a device, pipe or socket", "name a Python file")
        with path.open("rb") as file:
            source = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise InputMissingError(f"{field}: {path} is not there", "check the path") from error
    except OSError as error:
        raise InputMissingError(f"{field}: {path} cannot be read: {error.strerror}", "name a file to read") from error
    if len(source) > _MOST_BYTES:
        raise ConfigurationError(
            f"{field}: {path} has more than {_MOST_BYTES >> 20} MiB, and code has not", "name a Python file"
        )
    return source


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    """Names that statements bind, those in blocks of `if`, `try`, `with` and loops too, none of functions."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        else:
            yield from _bound_in(node)


def _bound_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for child in ast.iter_child_nodes(node):
        yield from _bound([child]) if isinstance(child, ast.stmt) else _bound_in(child)
