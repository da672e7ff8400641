"""A model's folder on this machine, whether it was here, on S3 or on the hub."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock
from huggingface_hub import HfApi, snapshot_download

from zerotune_trainer.errors import InputMissingError
from zerotune_trainer.storage.files import list_files
from zerotune_trainer.storage.hub_errors import hub_errors
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
    lock = FileLock(cache / f".{name.replace('/', '--')}.lock", poll_interval=POLL_SECONDS)
    token = os.environ.get("HF_TOKEN") or False
    with hub_errors(uri, revision, "model"), lock:
        return Path(
            snapshot_download(name, revision=revision, cache_dir=cache, token=token, allow_patterns=_MODEL_FILES)
        )


def data_set_commit(uri: str, name: str, revision: str | None) -> str:
    """The commit that a revision of a data set on the Hub stands for.

    Raises:
        InputMissingError, ConfigurationError, TemporaryError: as `hub_errors` says.
    """
    with hub_errors(uri, revision, "data"):
        found = HfApi(token=os.environ.get("HF_TOKEN") or False).dataset_info(name, revision=revision)
    return str(found.sha)
