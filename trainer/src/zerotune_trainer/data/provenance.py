"""How prepared rows were made, in a file beside them: token ids do not say which tokenizer they are of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import cast

from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.methods import METHODS, Method
from zerotune_trainer.data.cache import digest
from zerotune_trainer.data.files import DataFile
from zerotune_trainer.errors import ConfigurationError

PROVENANCE_NAME = "zerotune.json"
"""In the folder of each split, so that the folder of one says it, too."""
_LOSS = "what counts in the loss is taken as it is"
_PREPARE_AGAIN = "prepare the records again by `zerotune data prepare`, with the model, method and options of this job"


class Provenance(Settings):
    """What rows were made with."""

    model_config = Settings.model_config | {"extra": "ignore"}  # Of a later version.

    zerotune_version: str
    method: str
    loss: str | None
    """What counts in the loss, where `data.loss` said it."""
    model: str
    """URI of the model whose tokenizer it was."""
    tokens: int
    """Tokens of the tokenizer."""
    vocabulary: str
    """Digest of those, with their ids."""
    chat_template: str
    """Digest of the chat template, and of the tokens that begin and end a text."""
    max_length: int | None
    """Longer records were cut or left out. None: none was for its length."""


def provenance_of(config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> Provenance:
    """That of the rows that a job makes."""
    shortened = config.packing == "none" and config.data.overflow != "error"
    return Provenance(
        zerotune_version=version("zerotune-trainer"),
        method=config.method,
        loss=config.data.loss,
        model=config.model_source or config.model_uri,
        tokens=len(tokenizer),
        vocabulary=digest(sorted(tokenizer.get_vocab().items())),
        chat_template=digest(tokenizer.chat_template, tokenizer.bos_token, tokenizer.eos_token),
        max_length=config.data.max_length if shortened else None,
    )


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write it into the folder of a split."""
    (folder / PROVENANCE_NAME).write_text(provenance.model_dump_json(by_alias=True, indent=2) + "\n", encoding="utf-8")


def provenance_warnings(file: DataFile, config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """What a person should know of rows that a job takes as they are; nothing of a file of other records.

    Raises:
        ConfigurationError: their token ids are of another tokenizer, or what is said of them cannot be read.
    """
    if file.format != "datasets":
        return
    path = _beside(file, PROVENANCE_NAME)
    if path is None:
        if _holds_tokens(file):
            yield (
                f"{file.name} does not say which tokenizer its token ids are of, so that this is not checked: "
                "folders that `zerotune data prepare` writes say it"
            )
        return
    made, now = _read(path), provenance_of(config, tokenizer)
    if made.vocabulary != now.vocabulary:
        raise ConfigurationError(
            f"{file.name} holds token ids of the tokenizer of {made.model} ({_named(made)}), and the tokenizer of "
            f"{now.model} is another one ({_named(now)})",
            _PREPARE_AGAIN,
        )
    if _kind_of(made.method) != _kind_of(now.method):
        raise ConfigurationError(
            f"{file.name} holds rows for method {made.method}, and this job has method {now.method}, which does not "
            "train on such",
            _PREPARE_AGAIN,
        )
    yield from (f"{file.name} was prepared {text}" for text in _differences(made, now, config.data.max_length))


def _differences(made: Provenance, now: Provenance, longest: int) -> Iterator[str]:
    if made.chat_template != now.chat_template:
        yield (
            f"with another chat template, or other tokens that begin and end a text, than this job has, by the model "
            f"{made.model}: its rows are taken as they are; {_PREPARE_AGAIN}, if they should be as this job has them"
        )
    if made.method != now.method and _kind_of(now.method) is None:
        yield f"for method {made.method}, and this job has {now.method}: {_LOSS}"
    if now.loss not in (None, made.loss):
        yield f"with data.loss {made.loss or 'left out'}, and this job has {now.loss}: {_LOSS}"
    if made.max_length is not None and made.max_length < longest:
        yield (
            f"with data.maxLength {made.max_length}, and this job has {longest}: longer records are cut or missing; "
            f"{_PREPARE_AGAIN}, if they should not be"
        )


def _kind_of(method: str) -> str | None:
    """What its rows are."""
    traits = METHODS.get(cast("Method", method))
    return traits.preference if traits else None


def _named(provenance: Provenance) -> str:
    return f"{provenance.tokens:,} tokens, digest {provenance.vocabulary[:12]}"


def _read(path: Path) -> Provenance:
    try:
        return Provenance.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigurationError(
            f"{path} does not say how the rows were prepared: {error.errors()[0]['msg']}", _PREPARE_AGAIN
        ) from error


def _holds_tokens(file: DataFile) -> bool:
    path = _beside(file, "dataset_info.json")
    try:
        return path is not None and "input_ids" in (json.loads(path.read_bytes()).get("features") or {})
    except (ValueError, AttributeError):
        return False  # What is wrong with the folder is for who reads it.


def _beside(file: DataFile, name: str) -> Path | None:
    """A file in the folder of the split that is read."""
    folder = Path(file.name)
    splits = [folder / file.split] if file.split else sorted(path.parent for path in folder.glob(f"*/{name}"))
    return next((split / name for split in (folder, *splits) if (split / name).is_file()), None)
