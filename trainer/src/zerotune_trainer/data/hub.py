"""Data sets of the Hugging Face Hub, or of the mirror that HF_ENDPOINT names, read by `datasets`."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from zerotune_trainer import storage
from zerotune_trainer.errors import DataError, InputMissingError
from zerotune_trainer.input_errors import input_errors

HUB_SCHEME = "hf://datasets/"


def data_set_folder(uri: str, subset: str | None, split: str | None, cache_dir: Path) -> Path:
    """A folder as `datasets.save_to_disk` writes it, made once of the commit that the revision stands for now.

    Args:
        uri: `hf://datasets/ORG/NAME` or `hf://datasets/ORG/NAME@REVISION`.
        subset: Of the data set, where it has several.
        split: The only one that is read. None: all, which the folder then holds.
        cache_dir: Receives the folder.

    Raises:
        InputMissingError: no such data set, revision, subset or split, or not for HF_TOKEN.
        ConfigurationError: the data set is gated.
        DataError: its files cannot be read.
        TemporaryError: the Hub does not answer.
    """
    name, _, revision = uri.removeprefix(HUB_SCHEME).strip("/").partition("@")
    commit = storage.data_set_commit(uri, name, revision or None)

    def fetch(draft: Path) -> None:
        import datasets  # Here, since it takes a second and few jobs read from the Hub.

        datasets.disable_progress_bars()
        options = {"split": split, "revision": commit, "token": os.environ.get("HF_TOKEN") or False}
        with storage.hub_errors(uri, revision, "data"), input_errors(DataError, uri, "see the data set's own page"):
            try:
                found = datasets.load_dataset(name, subset, cache_dir=str(cache_dir / "datasets"), **options)
            except ValueError as error:  # What there is is in the message.
                raise InputMissingError(f"{uri}: {error}", "name one that it has as `subset` or `split`") from error
            found.save_to_disk(draft)

    key = hashlib.sha256(repr((name, commit, subset, split)).encode()).hexdigest()[:32]
    return storage.complete_or_absent(cache_dir / "fetched" / key, fetch)
