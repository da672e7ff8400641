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
        raise ConfigurationError(
            f"{uri} is gated", "accept its terms on the hub and give HF_TOKEN in a Secret"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        hint = f"check the name; a private one needs a Secret with HF_TOKEN, named by `{part}.credentials`"
        raise InputMissingError(f"{uri} is not on the hub, or not for this token", hint) from error
    except RevisionNotFoundError as error:
        raise InputMissingError(f"{uri} has no revision {revision!r}", "give a branch, tag or commit it has") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, ConnectionError) as error:
        hint = "check the network and HF_ENDPOINT, or give the folder as file:// or s3://"
        raise TemporaryError(f"{uri}: the hub does not answer: {error}", hint) from error
