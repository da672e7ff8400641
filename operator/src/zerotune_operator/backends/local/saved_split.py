"""The split of a `datasets` folder of this machine that a job reads. Its list of splits is read, nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from zerotune_trainer.config.data import Records
from zerotune_trainer.config.splits import chosen_split, no_splits
from zerotune_trainer.errors import ZerotuneError


def split_problem(place: str, records: Records, path: Path) -> ZerotuneError | None:
    """Why a job cannot read the split that it names, or has to name one; None where it can, or no folder is there.

    Args:
        place: Where its spec names the folder: `data.train`.
        records: What stands there.
        path: The folder.
    """
    if records.format not in ("auto", "datasets"):
        return None
    where, names = f"{place}.uris: {path}", _splits(path)
    if names:
        try:
            chosen_split(where, names, records.split)
        except ZerotuneError as error:
            return error
    elif records.split is not None and (path / "state.json").is_file():
        return no_splits(where, records.split)
    return None


def _splits(path: Path) -> list[str]:
    """The splits of a DatasetDict; none of any other folder, or where they cannot be read."""
    try:
        found = json.loads((path / "dataset_dict.json").read_bytes())["splits"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return [str(name) for name in found] if isinstance(found, list) else []
