"""What a job reads of other jobs: whether it is theirs still. Where a folder was emptied since, a third job may have
written to it, and that one's output is not what the spec names.
"""

from __future__ import annotations

from pydantic import ValidationError

from zerotune_trainer.config import InferConfig, OriginFolder, TrainConfig
from zerotune_trainer.errors import ConfigurationError, InputMissingError
from zerotune_trainer.manifest import MANIFEST_NAME, Manifest
from zerotune_trainer.storage import is_file, locate, read_bytes


def check_origins(config: TrainConfig | InferConfig) -> None:
    """See that the folders which other jobs are to have written are whole, and theirs.

    Raises:
        InputMissingError: there is no manifest in one: it was emptied, or is being written anew.
        ConfigurationError: another job has written it; or its store rejects the question.
        TemporaryError: the store does not answer.
    """
    for origin in config.origins:
        _check(origin)


def _check(origin: OriginFolder) -> None:
    writer = _manifest_of(origin).job
    if (writer.kind, writer.name) != (origin.kind, origin.name):
        raise ConfigurationError(
            f"{origin.uri} holds the output of {writer.kind} {writer.name}, not of {origin.kind} {origin.name}, which "
            f"{origin.field} names",
            f"name {writer.name} there if its output is meant, or run {origin.name} again with an output of its own",
        )


def _manifest_of(origin: OriginFolder) -> Manifest:
    uri, what = f"{origin.uri.rstrip('/')}/{MANIFEST_NAME}", f"what {origin.kind} {origin.name} is to have written"
    remedy = f"run {origin.name} again: its output is not there as it left it"
    if not is_file(locate(uri)):
        raise InputMissingError(f"{uri} is not there, so that {what} is gone or not whole", remedy)
    try:
        return Manifest.model_validate_json(read_bytes(uri))
    except ValidationError as error:
        raise InputMissingError(f"{uri} is no manifest, so that {what} is not whole: {error}", remedy) from error
