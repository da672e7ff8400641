"""A model's folder on this machine, whether it was here, on S3 or on the hub."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock
from huggingface_hub import snapshot_download
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
from zerotune_trainer.storage.files import list_files
from zerotune_trainer.storage.locations import locate
from zerotune_trainer.storage.once import POLL_SECONDS, complete_or_absent

_MODEL_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py", "*.bin"]
_TRANSFERS = 8


def local_folder(uri: str, cache_dir: Path, revision: str | None = None) -> Path:
    """The folder of a model: `file://` as it is; `s3://` and `hf://` fetched once into `cache_dir`, complete or absent.

    The hub's token is `HF_TOKEN` of the environment, where there is one; a public model needs none.

    Raises:
        InputMissingError: no such folder, bucket, model or revision.
        ConfigurationError: access denied.
        TemporaryError: the store or the hub does not answer.
    """
    if uri.startswith("hf://"):
        return _from_hub(uri.removeprefix("hf://").strip("/"), cache_dir, revision)
    location = locate(uri)
    if location.local is None:
        return _from_s3(uri, cache_dir)
    if not location.local.is_dir():
        raise InputMissingError(f"{uri} is not a folder that is there", "give the folder that holds the files")
    return location.local


def _from_s3(uri: str, cache_dir: Path) -> Path:
    from zerotune_trainer.storage.s3 import S3Store
    from zerotune_trainer.storage.s3_errors import s3_errors

    location, store = locate(uri), S3Store()
    files = list_files(uri, [""])
    key = hashlib.sha256(repr((uri, files)).encode()).hexdigest()[:32]

    def fetch(draft: Path) -> None:
        def copy(source: str) -> None:
            path = source.removeprefix("s3://")
            store.fetch(path, draft / path.removeprefix(f"{location.path}/"))

        with s3_errors(uri), ThreadPoolExecutor(_TRANSFERS) as pool:
            list(pool.map(copy, [file.uri for file in files]))

    return complete_or_absent(cache_dir / "fetched" / key, fetch)


def _from_hub(name: str, cache_dir: Path, revision: str | None) -> Path:
    uri = f"hf://{name}"
    cache = cache_dir / "hub"
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(cache / f".{name.replace('/', '--')}.lock", poll_interval=POLL_SECONDS):
            token = os.environ.get("HF_TOKEN") or False
            return Path(
                snapshot_download(name, revision=revision, cache_dir=cache, token=token, allow_patterns=_MODEL_FILES)
            )
    except GatedRepoError as error:
        raise ConfigurationError(
            f"{uri} is gated", "accept its terms on the hub and give HF_TOKEN in a Secret"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        hint = "check the name; a private model needs a Secret with HF_TOKEN, named by `model.credentials`"
        raise InputMissingError(f"{uri} is not on the hub, or not for this token", hint) from error
    except RevisionNotFoundError as error:
        raise InputMissingError(f"{uri} has no revision {revision!r}", "give a branch, tag or commit it has") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, ConnectionError) as error:
        hint = "check the network and HF_ENDPOINT, or give the model's folder as file:// or s3://"
        raise TemporaryError(f"{uri}: the hub does not answer: {error}", hint) from error
