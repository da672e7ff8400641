"""What a library raises over a user's input: the input's fault, not a bug of ours that is tried again.

One border a phase: reading records (`data.readers`), rendering them (`data.chat`), the tokenizer, the config and the
weights (`model`, `model_checks`), transformers' Trainer (`train`). Within it any exception is about the input, unless
memory, a volume, a device or another rank is at fault: no list of exceptions is long enough for what libraries raise.
Torch-free.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zerotune_trainer.errors import ConfigurationError, DataError, InternalError, ZerotuneError
from zerotune_trainer.failures import classify

_OF_MACHINE = {"DistError", "AcceleratorError"}
"""Errors of torch that are about other ranks or the device, by name."""


_BEGINNINGS = {
    b"version https://git-lfs": "it is a pointer of Git LFS: fetch the file with `git lfs pull`",
    b"\x1f\x8b": "it is compressed with gzip: let its name end in .jsonl.gz, or decompress it",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd: decompress it with `unzstd`",
    b"PK\x03\x04": "it is a zip archive: unpack it, and name the files in it",
    b"PAR1": "it is a parquet file: let its name end in .parquet, or set `format`",
    b"SQLite format 3": "it is a database of SQLite: export its rows as jsonl",
    b"<!DOCTYPE": "it is a web page, such as a login or an error: fetch the file itself",
    b"<html": "it is a web page, such as a login or an error: fetch the file itself",
}


def recognize(beginning: bytes) -> str:
    """The remedy for a file that is of another kind than its name says, by its first bytes; else empty."""
    return next((remedy for magic, remedy in _BEGINNINGS.items() if beginning.startswith(magic)), "")


@contextmanager
def input_errors(kind: type[ConfigurationError | DataError], what: str, hint: str) -> Iterator[None]:
    """Wrap what a library does with a user's input.

    Args:
        kind: What an error within means.
        what: The input and what is wrong with it; the library's message follows.
        hint: The remedy.

    Raises:
        ZerotuneError: one of ours as it is; what the machine is at fault for as `classify` says; `kind` otherwise.
    """
    try:
        yield
    except ZerotuneError:
        raise
    except Exception as error:
        raise of_input(error, kind, what, hint) from error


def of_input(error: Exception, kind: type[ConfigurationError | DataError], what: str, hint: str) -> ZerotuneError:
    """What an error means that a library raised over a user's input."""
    found = classify(error)
    if not isinstance(found, InternalError) or _is_torchs(error):
        return found
    # A package that is missing is no fault of the file that asks for it.
    if isinstance(error, ImportError):
        return ConfigurationError(f"{what}: {error}", "use a trainer image with that package, or do without it")
    return kind(f"{what}: {message_of(error)}", hint)


def is_of_machine(error: BaseException) -> bool:
    """Whether an error is not about what was being read: memory, volume, device, peer."""
    if _is_torchs(error) or getattr(error, "errno", None) is not None:
        return True
    return not isinstance(classify(error), InternalError)


def message_of(error: BaseException) -> str:
    """The message of an error, with its class where that is needed to understand it: `KeyError: 'rope_type'`."""
    text = str(error).strip()
    return text if " " in text else f"{type(error).__name__}: {text}".removesuffix(": ")


def _is_torchs(error: BaseException) -> bool:
    return not _OF_MACHINE.isdisjoint(kind.__name__ for kind in type(error).__mro__)
