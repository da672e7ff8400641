"""The splits of folders that `datasets.save_to_disk` wrote: which of them is read."""

from __future__ import annotations

from collections.abc import Sequence

from zerotune_trainer.errors import ConfigurationError, InputMissingError


def chosen_split(path: str, names: Sequence[str], split: str | None) -> str:
    """The split that is read of a `datasets` folder of several: the one that is asked for, or its only one.

    Args:
        path: The folder.
        names: The splits that it holds.
        split: The one that is asked for.

    Raises:
        InputMissingError: it holds no such split.
        ConfigurationError: it holds several, and none is asked for.
    """
    listed = ", ".join(names)
    if split is None and len(names) > 1:
        raise ConfigurationError(f"{path} holds the splits {listed}", "name one of them as `split`")
    name = names[0] if split is None else split
    if name not in names:
        raise InputMissingError(f"{path} has no split {name!r}; it holds {listed}", "name one of them as `split`")
    return name


def no_splits(path: str, split: str) -> ConfigurationError:
    """The error that a split is asked for of a folder without any."""
    return ConfigurationError(f"{path} holds no splits, and {split!r} is asked for", "leave `split` out")
