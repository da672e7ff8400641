"""Whether the files of a checkpoint load, before the engine takes them.

Each rank of a DeepSpeed engine loads files of its own, with collectives in between: one that fails alone leaves the
others waiting, and an engine that has loaded half of a checkpoint is of no further use. So the ranks read all files
beforehand, each its share, and agree on what they found.

A file of tensors is a pickle, and whoever may write to the bucket may put code into it. torch loads none but the types
below: here, and in ranks wherever a library asks for all types (TORCH_FORCE_WEIGHTS_ONLY_LOAD, see `forkserver`).
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers.trainer_pt_utils import safe_globals

from zerotune_trainer.input_errors import is_of_machine

_TENSORS = {".pt", ".pth"}
_FOREIGN_TYPE = re.compile(r"(?:Unsupported global: GLOBAL|Unsupported class|GLOBAL) (\S+)")


def load_problems(folder: Path, files: Iterable[str]) -> list[str]:
    """What does not load, a sentence each. Tensors are mapped and not read: their content has been hashed.

    Args:
        folder: The checkpoint.
        files: Paths below it, this rank's share.

    Raises:
        OSError, RuntimeError, MemoryError: what is the machine's fault, such as a volume that does not answer.
    """
    return [problem for file in files if (problem := _problem(folder, file))]


def first_line(error: BaseException) -> str:
    """An error in a line: libraries append their stack, or say nothing at all."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _problem(folder: Path, file: str) -> str:
    path = folder / file
    try:
        if path.suffix in _TENSORS:
            with safe_globals():  # type: ignore[no-untyped-call]
                torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.name == "latest" and not (folder / path.read_text().strip()).is_dir():
            return f"{file} names {path.read_text().strip()!r}, which is not there"
    except pickle.UnpicklingError as error:
        found = _FOREIGN_TYPE.search(str(error))
        what = f"it holds {found[1]}, which no checkpoint does: it is not unpickled" if found else first_line(error)
        return f"{file} does not load: {what}"
    except Exception as error:
        if is_of_machine(error):
            raise
        return f"{file} does not load: {first_line(error)}"
    return ""
