"""Prepare a job's records without training, as `zerotune data` asks for.

    python -m zerotune_trainer.data preview FOLDER        show what the model will see
    python -m zerotune_trainer.data prepare FOLDER OUT    write the records as rows; so does FOLDER OUT alone

FOLDER has the job's `config.json`. OUT becomes a folder that `datasets.load_from_disk` reads, with the split `train`
and, where the job names validation records, `validation`: a row a record, processed and tokenized; `zerotune.json` in
the folder of each says how they were made. A job that names it
(`uris: [OUT]`, `split: train`) trains on the same rows as the job that names the files.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import datasets
from transformers import PreTrainedTokenizerBase

from zerotune_trainer import storage
from zerotune_trainer.config import TrainConfig, load_config
from zerotune_trainer.config.training import Preference
from zerotune_trainer.counting import counted
from zerotune_trainer.data.judgements import imbalance
from zerotune_trainer.data.prepare import prepare, tokenized_records
from zerotune_trainer.data.preview import preview
from zerotune_trainer.data.provenance import provenance_of, write_provenance
from zerotune_trainer.data.tokenizer import load_tokenizer
from zerotune_trainer.errors import SEE_TRACEBACK, ConfigurationError
from zerotune_trainer.failures import classify
from zerotune_trainer.printable import printable

_ACTIONS = ("preview", "prepare")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    without_action = len(given) == 2 and given[0] not in _ACTIONS and Path(given[0]).is_dir()
    options = _parser().parse_args(["prepare", *given] if without_action else given)
    try:
        if options.action == "preview":
            _preview(options.folder, options.rows, options.first)
        else:
            _prepare(options.folder, options.out, options.first)
    except Exception as raised:  # noqa: BLE001 (whatever it is, it is reported)
        error = classify(raised)
        if SEE_TRACEBACK in error.hint:  # There is no log here but what is printed.
            traceback.print_exception(raised.__cause__ or raised)
        hint = error.hint.replace(SEE_TRACEBACK, "its whole traceback is printed above")
        sys.stderr.write(f"error: {error.message}\nhint: {hint}\n")
        return error.exit_code
    if options.done:
        options.done.touch()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m zerotune_trainer.data", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for name in _ACTIONS:
        action = actions.add_parser(name)
        action.add_argument("folder", type=Path, help="folder with the job's config.json")
        action.add_argument("--first", type=int, help="take no more than so many records of each split")
        action.add_argument("--done", type=Path, help="file that is made when the work is done: user code may exit")
        if name == "preview":
            action.add_argument("--rows", type=int, default=3, help="how many rows of each split are shown")
        else:
            action.add_argument("out", help="folder to write: a path, file:// or s3://")
    return parser


def _preview(folder: Path, shown: int, first: int | None) -> None:
    config, tokenizer = _loaded(folder)
    rows = prepare(config, tokenizer, most=first)
    records = tokenized_records(config, tokenizer, first)
    for line in preview(rows, records, tokenizer, config.traits, shown):
        sys.stdout.write(f"{printable(line)}\n")
    text = imbalance(rows.counts.train, config.preference or Preference())
    _warn([*rows.warnings, *([text] if text else [])])


def _warn(texts: Sequence[str]) -> None:
    sys.stdout.write("".join(f"\nwarning: {printable(text)}\n" for text in texts))


def _prepare(folder: Path, out: str, first: int | None) -> None:
    uri = out if "://" in out else f"file://{Path(out).absolute()}"
    with tempfile.TemporaryDirectory() as staging:
        _require_new(uri, Path(staging))
        config, tokenizer = _loaded(folder)
        # Rows that no job can train on are rejected as a job rejects them.
        warnings = prepare(config, tokenizer, most=first).warnings
        splits = tokenized_records(config, tokenizer, first)
        saved = {name: datasets.Dataset(datasets.table.InMemoryTable(rows.table)) for name, rows in splits.items()}
        target = storage.open_folder(uri, Path(staging))
        datasets.DatasetDict(saved).save_to_disk(str(target.local))
        for name in saved:
            write_provenance(target.local / name, provenance_of(config, tokenizer))
        target.push([""])
    sys.stdout.write("".join(f"{name}: {counted(len(rows), 'row')} in {uri}\n" for name, rows in splits.items()))
    _warn(warnings)


def _require_new(uri: str, staging: Path) -> None:
    """See that nothing is in the place of the result.

    Raises:
        ConfigurationError: something is, or nothing can be written there.
    """
    local = storage.locate(uri).local
    if local.exists() if local is not None else storage.open_folder(uri, staging).children():
        raise ConfigurationError(f"{uri} is there already", "name a folder that is not")


def _loaded(folder: Path) -> tuple[TrainConfig, PreTrainedTokenizerBase]:
    """The job and the tokenizer of its model."""
    config = load_config(folder)
    if not isinstance(config, TrainConfig):
        raise ConfigurationError(f"{folder}/config.json is of an InferenceJob", "give the folder of a FineTuneJob")
    model = storage.local_folder(config.model_uri, Path(config.launch.cache_dir), config.model.revision)
    return config, load_tokenizer(config.model, model)


if __name__ == "__main__":
    sys.exit(main())
