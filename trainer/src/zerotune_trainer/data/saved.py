"""Folders that `datasets.save_to_disk` wrote."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from zerotune_trainer.config.splits import chosen_split, no_splits
from zerotune_trainer.data.files import DataFile
from zerotune_trainer.errors import DataError, InputMissingError
from zerotune_trainer.input_errors import input_errors


def open_split(file: DataFile) -> Any:
    """The Dataset of a folder, memory-mapped; of a DatasetDict the split that is asked for, or its only one.

    Raises:
        InputMissingError: no such split, or the folder was not written by `save_to_disk`.
        ConfigurationError: several splits and none asked for, or one asked for where there are none.
    """
    import datasets  # Here, since it takes a second and few jobs have such folders.

    path = file.uri.removeprefix("file://")
    what = f"{path} cannot be read by datasets {version('datasets')}"
    hint = "save it again; a folder that a newer version of datasets wrote takes a newer trainer image"
    with input_errors(DataError, what, hint):
        try:
            found = datasets.load_from_disk(path)
        except FileNotFoundError as error:
            raise InputMissingError(
                f"{path} is no folder that datasets.save_to_disk wrote: {error}", "save it again, or set `format`"
            ) from error
    if isinstance(found, datasets.DatasetDict):
        return found[chosen_split(path, list(found), file.split)]
    if file.split is not None:
        raise no_splits(path, file.split)
    return found
