"""What the Hugging Face Hub's refusals mean for who named the repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError
from zerotune_trainer.storage.runtime import in_pod, in_training_job


@contextmanager
def hub_errors(uri: str, revision: str | None, part: str) -> Iterator[None]:
    """Say what an error of the Hub's client means.

    Args:
        uri: The repository, as the job names it.
        revision: That is asked for.
        part: Of the spec, whose credentials are used: `model`.

    Raises:
        InputMissingError: no such repository or revision, or not for this token.
        ConfigurationError: the repository is gated.
        TemporaryError: the Hub does not answer.
    """
    try:
        yield
    except GatedRepoError as error:
        hint = f"accept its terms on the hub, then {_remedy_for_token(part)}"
        raise ConfigurationError(f"{uri} is gated", hint) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        hint = f"check the name; for a private one, {_remedy_for_token(part)}"
        raise InputMissingError(f"{uri} is not on the hub, or not for this token", hint) from error
    except RevisionNotFoundError as error:
        raise InputMissingError(f"{uri} has no revision {revision!r}", "give a branch, tag or commit it has") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, ConnectionError) as error:
        hint = "check the network and HF_ENDPOINT, or give the folder as file:// or s3://"
        raise TemporaryError(f"{uri}: the hub does not answer: {error}", hint) from error


def _remedy_for_token(part: str) -> str:
    """What lets this process read what takes a token."""
    if in_pod():
        return f"give a Secret with HF_TOKEN, named by `{part}.credentials`"
    if in_training_job():
        return "copy it to S3 and name it as s3://: a training job has no token of the hub"
    return "set HF_TOKEN in the environment to a token of an account that may read it"
