"""The tokenizer of the model that a job starts from, loaded whole or rejected."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from zerotune_trainer.config.sources import Model
from zerotune_trainer.errors import ConfigurationError, InputMissingError
from zerotune_trainer.input_errors import input_errors, recognize

_FILES = ("*token*", "vocab*", "*.model")
_HINT = (
    "give the files that were published with the model; a tokenizer.json that newer libraries wrote takes a newer "
    "trainer image, and one that is missing is made by transformers.convert_slow_tokenizer"
)


def load_tokenizer(model: Model, folder: Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with the spec's chat template where it gives one.

    A tokenizer without a padding token pads with its end token; padding has no loss, an end token that belongs to
    the text keeps its own.

    Raises:
        InputMissingError: the folder holds no tokenizer.
        ConfigurationError: the tokenizer cannot be loaded, or has neither a padding nor an end token.
    """
    try:
        with input_errors(ConfigurationError, f"the tokenizer in {folder} cannot be loaded", _HINT):
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
    except ConfigurationError as error:
        files = [path for pattern in _FILES for path in folder.glob(pattern) if path.is_file()]
        if remedy := next(filter(None, map(_remedy_for, files)), ""):
            raise ConfigurationError(error.message, remedy) from error
        if files:
            raise
        raise InputMissingError(f"{folder} holds no tokenizer", "put the model's tokenizer files there") from error
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ConfigurationError(
                f"the tokenizer in {folder} has neither a padding nor an end token",
                "set eos_token in tokenizer_config.json",
            )
        tokenizer.pad_token = tokenizer.eos_token
    if model.chat_template is not None:
        tokenizer.chat_template = model.chat_template
    return tokenizer


def _remedy_for(path: Path) -> str:
    with path.open("rb") as file:
        remedy = recognize(file.read(64))
    return f"{path.name}: {remedy}" if remedy else ""
