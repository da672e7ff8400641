"""Prepare a job's records without training: `python -m zerotune_trainer.data FOLDER OUT`.

FOLDER has the job's `config.json`. OUT becomes a folder that `datasets.load_from_disk` reads, with the split `train`
and, where the job names validation records, `validation`: a row a record, `input_ids` and `labels`, processed and
tokenized.
A job that names it (`uris: [file://OUT]`, `split: train`) trains on the same rows as the job that names the files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import datasets

from zerotune_trainer.config import TrainConfig, load_config
from zerotune_trainer.data.prepare import tokenized_records
from zerotune_trainer.data.tokenizer import load_tokenizer
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.failures import classify
from zerotune_trainer.storage import local_folder


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m zerotune_trainer.data", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the job's config.json")
    parser.add_argument("out", type=Path, help="folder to write")
    options = parser.parse_args(arguments)
    try:
        _write(options.folder, options.out)
    except Exception as raised:  # noqa: BLE001 (whatever it is, it is reported)
        error = classify(raised)
        sys.stderr.write(f"error: {error.message}\nhint: {error.hint}\n")
        return error.exit_code
    return 0


def _write(folder: Path, out: Path) -> None:
    config = load_config(folder)
    if not isinstance(config, TrainConfig):
        raise ConfigurationError(f"{folder}/config.json is of an InferenceJob", "give the folder of a FineTuneJob")
    if out.exists():
        raise ConfigurationError(f"{out} is there already", "name a folder that is not")
    if config.model.uri is None:
        raise ConfigurationError("model.uri is not set", "set it to the model whose tokenizer counts")
    model = local_folder(config.model.uri, Path(config.launch.cache_dir), config.model.revision)
    splits = tokenized_records(config, load_tokenizer(config.model, model))
    saved = {name: datasets.Dataset(datasets.table.InMemoryTable(rows.table)) for name, rows in splits.items()}
    datasets.DatasetDict(saved).save_to_disk(str(out))


if __name__ == "__main__":
    sys.exit(main())
