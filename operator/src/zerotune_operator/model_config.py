"""Reading a model's `config.json`, and nothing else of it."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError
from zerotune_trainer.sizing.shape import ModelShape, read_shape

_TIMEOUT_SECONDS = 30
_TRUE = {"1", "on", "yes", "true"}
_BY_HAND = "give the model's config.json with --model-config FILE"


def model_shape(uri: str, revision: str | None = None) -> ModelShape:
    """The shape of the model at `hf://ORG/NAME` or `file:///PATH`.

    The Hub is asked as huggingface_hub does: its cache first, then, unless `HF_HUB_OFFLINE` is set, `HF_ENDPOINT` with
    `HF_TOKEN`.

    Raises:
        InputMissingError: there is no such model, it has no config.json, or it is not ours to read.
        ConfigurationError: config.json is not one of a language model, or lies where only the ranks can read it.
        TemporaryError: the Hub does not answer.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "file":
        return shape_of_file(Path(rest) / "config.json")
    if scheme == "hf":
        return _shape_of_hub(rest.strip("/"), revision or "main")
    raise ConfigurationError(f"the shape of {uri} cannot be read from here", _BY_HAND)


def shape_of_file(path: Path) -> ModelShape:
    """The shape that a `config.json` on this machine describes.

    Raises:
        InputMissingError: there is no such file.
        ConfigurationError: it is not the config.json of a language model.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputMissingError(f"{path} is not there", "name the folder of a model: it holds config.json") from error
    except OSError as error:
        raise InputMissingError(
            f"{path} cannot be read: {error.strerror}", "name a folder that you can read"
        ) from error
    return shape_of_content(content, str(path))


def _shape_of_hub(name: str, revision: str) -> ModelShape:
    cached = _cached(name, revision)
    if cached is not None:
        return shape_of_file(cached)
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
        raise InputMissingError(
            f"hf://{name} is not in the cache at {_cache()}, and HF_HUB_OFFLINE is set", f"unset it, or {_BY_HAND}"
        )
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{endpoint}/{name}/resolve/{revision}/config.json"
    return shape_of_content(_fetch(url, f"hf://{name}"), url)


def _cache() -> Path:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def _cached(name: str, revision: str) -> Path | None:
    """Where huggingface_hub keeps the file: `refs/BRANCH` names a commit, `snapshots/COMMIT` holds its files."""
    folder = _cache() / f"models--{name.replace('/', '--')}"
    reference = folder / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    path = folder / "snapshots" / commit / "config.json"
    return path if path.is_file() else None


def _fetch(url: str, model: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "zerotune"})  # noqa: S310 (the endpoint is the user's)
    if token := os.environ.get("HF_TOKEN"):
        # Not sent on to wherever the Hub redirects to.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise InputMissingError(
                f"{model} is not there, or not yours to read ({error.code})",
                "check the name, and set HF_TOKEN to a token of an account that accepted the model's terms",
            ) from error
        if error.code == 404:
            raise InputMissingError(f"{url} is not there", "check the model's name and revision") from error
        raise TemporaryError(f"{url}: {error.code} {error.reason}", f"try again, or {_BY_HAND}") from error
    except (urllib.error.URLError, TimeoutError) as error:
        raise TemporaryError(f"{url} does not answer: {error}", f"try again, or {_BY_HAND}") from error


def shape_of_content(content: bytes, where: str) -> ModelShape:
    """The shape that the content of a `config.json` describes; `where` names the file in errors.

    Raises:
        ConfigurationError: it is not the config.json of a language model.
    """
    try:
        config: Any = json.loads(content)
    except ValueError as error:
        raise ConfigurationError(f"{where} is not JSON: {error}", "write the model's folder again") from error
    if not isinstance(config, dict):
        raise ConfigurationError(f"{where} is not a JSON object", "name the folder of a model")
    return read_shape(config, where)
