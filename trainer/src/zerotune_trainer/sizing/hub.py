"""Small files of a model on the Hugging Face Hub, within bounds of bytes and seconds. Torch-free."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError
from zerotune_trainer.sizing.adapter_config import ADAPTER_CONFIG
from zerotune_trainer.sizing.model_folder import MOST_BYTES_OF_INDEX, WEIGHT_INDEX, Reader, reader_of_folder

_TIMEOUT_SECONDS = 10
"""Without a byte."""

_LONGEST_SECONDS = 60
"""For a whole file: it may come in drops."""

_MOST_BYTES = 4 << 20
"""Of a config.json, which has some kilobytes."""

_TRUE = {"1", "on", "yes", "true"}


def reader_of_hub(name: str, revision: str) -> tuple[str, Reader]:
    """What the files of a model on the Hub are called, and what reads them."""
    cached = _cached(name, revision)
    if cached is not None:
        return str(cached), reader_of_folder(cached)
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
        raise InputMissingError(f"hf://{name} is not in the cache at {_cache()}, and HF_HUB_OFFLINE is set", "unset it")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    # Quoted: neither name nor revision may lead to another file.
    folder = f"{endpoint}/{quote(name)}/resolve/{quote(revision, safe='')}"

    def read(file: str) -> bytes:
        return _fetch(f"{folder}/{file}", f"hf://{name}", MOST_BYTES_OF_INDEX if file == WEIGHT_INDEX else _MOST_BYTES)

    return folder, read


def _cache() -> Path:
    # Unlike Path.expanduser, it lets a user without a home folder pass: then nothing is cached.
    home = Path(os.path.expanduser(os.environ.get("HF_HOME", "~/.cache/huggingface")))  # noqa: PTH111
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def _cached(name: str, revision: str) -> Path | None:
    """Where huggingface_hub keeps the files: `refs/BRANCH` names a commit, `snapshots/COMMIT` holds its files."""
    folder = _cache() / f"models--{name.replace('/', '--')}"
    reference = folder / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    snapshot = folder / "snapshots" / commit
    return snapshot if any((snapshot / file).is_file() for file in ("config.json", ADAPTER_CONFIG)) else None


def _fetch(url: str, model: str, most_bytes: int) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "zerotune"})  # noqa: S310 (the endpoint is the user's)
    if token := os.environ.get("HF_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")  # Redirects stay on the Hub.
    try:
        with urllib.request.build_opener(_WithinTheHub).open(request, timeout=_TIMEOUT_SECONDS) as answer:
            content = _read(answer, most_bytes + 1)
    except urllib.error.HTTPError as error:
        raise _rejection(error, url, model) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise TemporaryError(
            f"{url} does not answer: {error}", "check the network and HF_ENDPOINT, or try again"
        ) from error
    if len(content) > most_bytes:
        raise ConfigurationError(f"{url} is larger than {most_bytes:,} bytes", "name a model with its own config.json")
    return content


def _read(answer: Any, most_bytes: int) -> bytes:
    """The first bytes of a response.

    Raises:
        TimeoutError: they do not come in time.
    """
    content, deadline = bytearray(), time.monotonic() + _LONGEST_SECONDS
    while len(content) < most_bytes and (piece := answer.read1(most_bytes - len(content))):
        content += piece
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(content):,} bytes in {_LONGEST_SECONDS} s")
    return bytes(content)


class _WithinTheHub(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the same host alone, as the Hub sends them for models that were renamed: to follow any other
    would let whoever answers choose what this process asks for, and give it the token.
    """

    max_redirections = 4

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """The next request; None rejects the redirect."""
        if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _rejection(error: urllib.error.HTTPError, url: str, model: str) -> InputMissingError | TemporaryError:
    if error.code in (401, 403):
        return InputMissingError(
            f"{model} is not there, or not yours to read ({error.code})",
            "check the name, and set HF_TOKEN, in a pod by the Secret of model.credentials, to a token of an account "
            "that accepted the model's terms",
        )
    if error.code == 404:
        return InputMissingError(f"{url} is not there", "check the model's name and revision")
    if error.code in range(300, 400):
        return InputMissingError(
            f"{url} redirects to another host, which is not followed", "set HF_ENDPOINT to that host, if it is yours"
        )
    return TemporaryError(f"{url}: {error.code} {error.reason}", "try again")
