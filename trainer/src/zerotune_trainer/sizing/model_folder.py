"""The files of a model's folder, as far as its size is read from them. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zerotune_trainer.errors import InputMissingError

WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
"""What the files of weights in a model's folder are called."""

WEIGHT_INDEX = "model.safetensors.index.json"
"""Says how large the weights of a model in several files are; architectures that are not counted are sized by it."""

MOST_BYTES_OF_INDEX = 64 << 20
"""Of an index, which has a line for every weight."""


Reader = Callable[[str], bytes]
"""Gives the content of a file of a model's folder, by its name.

Raises:
    InputMissingError: there is no such file.
"""


def reader_of_folder(folder: Path) -> Reader:
    """What reads the files of a folder of this machine."""

    def read(name: str) -> bytes:
        path = folder / name
        try:
            with path.open("rb") as file:
                return file.read(MOST_BYTES_OF_INDEX)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputMissingError(f"{path} is not there", _folder_hint(folder)) from error
        except OSError as error:
            raise InputMissingError(
                f"{path} cannot be read: {error.strerror}", "name a folder that you can read"
            ) from error

    return read


def _folder_hint(folder: Path) -> str:
    """What to give in place of a folder without config.json."""
    if (folder / "trainer_state.json").is_file() or (folder / "latest").is_file():
        return "the folder holds a checkpoint: give the output folder of the job that wrote it"
    return "name the folder of a model: it holds config.json"


def require_weights(folder: Path, name: str = "") -> None:
    """See that a model's folder on this machine holds weights; messages call it by `name`, else by its path.

    Raises:
        InputMissingError: it does not.
    """
    if not any(any(folder.glob(pattern)) for pattern in WEIGHT_FILES):
        raise InputMissingError(
            f"{name or folder} holds no weights: there is no {' and no '.join(WEIGHT_FILES)}",
            "give a complete Hugging Face folder: config.json and the weights that belong to it",
        )
