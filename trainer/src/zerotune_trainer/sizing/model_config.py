"""A model's shape from its `config.json`, wherever that lies; nothing else of the model is fetched. Torch-free."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError
from zerotune_trainer.sizing.adapter_config import ADAPTER_CONFIG, Base, read_base
from zerotune_trainer.sizing.host import BYTES_OF_DTYPE
from zerotune_trainer.sizing.shape import ModelShape, has_unknown_experts, read_shape

WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
"""What the files of weights in a model's folder are called."""

WEIGHT_INDEX = "model.safetensors.index.json"
"""Says how large the weights of a model in several files are; architectures that are not counted are sized by it."""

_TIMEOUT_SECONDS = 10
"""Without a byte."""
_LONGEST_SECONDS = 60
"""For a whole file: it may come in drops."""
_MOST_BYTES, _MOST_BYTES_OF_INDEX = 4 << 20, 64 << 20
"""Of a config.json, which has some kilobytes, and of an index, which has a line for every weight."""
_TRUE = {"1", "on", "yes", "true"}


Reader = Callable[[str], bytes]
"""Gives the content of a file of a model's folder, by its name.

Raises:
    InputMissingError: there is no such file.
"""


def model_shape(
    uri: str, revision: str | None, read_s3: Callable[[str], bytes], resolve: Callable[[str], str] = str
) -> ModelShape:
    """The shape of the model at `hf://ORG/NAME`, `s3://BUCKET/PREFIX` or `file:///PATH`; for an adapter, of its base.

    The Hub is asked as huggingface_hub does: its cache first, then, unless `HF_HUB_OFFLINE` is set, `HF_ENDPOINT` with
    `HF_TOKEN`.

    Args:
        uri: The model's folder.
        revision: Branch, tag or commit of an `hf://` model; default `main`.
        read_s3: Gives the content of a file at `s3://`. Its errors rise as they are.
        resolve: Says where a URI that an adapter names is read from here: `pvc://` where the claim is mounted.

    Raises:
        InputMissingError: there is no such model, it has no config.json, or it is not ours to read.
        ConfigurationError: config.json is not one of a language model, or lies where it cannot be read from here.
        TemporaryError: the Hub does not answer.
    """
    scheme, _, rest = uri.partition("://")
    match scheme:
        case "file":
            where, read = rest.rstrip("/"), _reader_of_folder(Path(rest))
        case "hf":
            where, read = _reader_of_hub(rest.strip("/"), revision or "main")
        case "s3":
            where = uri.rstrip("/")
            read = lambda name: read_s3(f"{where}/{name}")  # noqa: E731
        case _:
            raise ConfigurationError(
                f"the shape of {uri} cannot be read from here",
                "only what has mounted the claim can: there it is file:///PATH",
            )
    return _shape_of_folder(where, read, lambda base: model_shape(resolve(base.uri), base.revision, read_s3, resolve))


def _shape_of_folder(where: str, read: Reader, shape_of: Callable[[Base], ModelShape]) -> ModelShape:
    """The shape of the model in a folder, or of the base of the adapter there."""
    try:
        content = read("config.json")
    except InputMissingError:
        try:
            base = read_base(read(ADAPTER_CONFIG), f"{where}/{ADAPTER_CONFIG}")
        except InputMissingError:
            base = None
        if base is None:
            raise
        shape = shape_of(base)
        if shape.base_uri is not None:
            raise ConfigurationError(
                f"{where}/{ADAPTER_CONFIG} names the base {base.uri}, which is an adapter itself",
                "merge that adapter into its model, and train an adapter of the merged model",
            ) from None
        return shape.model_copy(update={"base_uri": base.uri})
    return _shape_of_content(content, f"{where}/config.json", lambda: read(WEIGHT_INDEX))


def shape_of_file(path: Path) -> ModelShape:
    """The shape that a `config.json` on this machine describes.

    Raises:
        InputMissingError: there is no such file.
        ConfigurationError: it is not the config.json of a language model.
    """
    read = _reader_of_folder(path.parent)
    return _shape_of_content(read(path.name), str(path), lambda: read(WEIGHT_INDEX))


def _reader_of_folder(folder: Path) -> Reader:
    def read(name: str) -> bytes:
        path = folder / name
        try:
            with path.open("rb") as file:
                return file.read(_MOST_BYTES_OF_INDEX)
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


def require_weights(folder: Path) -> None:
    """See that a model's folder on this machine holds weights.

    Raises:
        InputMissingError: it does not.
    """
    if not any(any(folder.glob(pattern)) for pattern in WEIGHT_FILES):
        raise InputMissingError(
            f"{folder} holds no weights: there is no {' and no '.join(WEIGHT_FILES)}",
            "give a complete Hugging Face folder: config.json and the weights that belong to it",
        )


def _reader_of_hub(name: str, revision: str) -> tuple[str, Reader]:
    """What the files of a model on the Hub are called, and what reads them."""
    cached = _cached(name, revision)
    if cached is not None:
        return str(cached), _reader_of_folder(cached)
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
        raise InputMissingError(f"hf://{name} is not in the cache at {_cache()}, and HF_HUB_OFFLINE is set", "unset it")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    # Quoted: neither name nor revision may lead to another file.
    folder = f"{endpoint}/{quote(name)}/resolve/{quote(revision, safe='')}"

    def read(file: str) -> bytes:
        return _fetch(f"{folder}/{file}", f"hf://{name}", _MOST_BYTES_OF_INDEX if file == WEIGHT_INDEX else _MOST_BYTES)

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


def _shape_of_content(content: bytes, where: str, read_index: Callable[[], bytes]) -> ModelShape:
    config = _parse(content, where)
    shape = read_shape(config, where)
    if shape.exact:
        return shape
    parameters = _parameters_of_index(read_index, shape)
    if parameters is not None:
        largest = max(shape.largest_layer, parameters // shape.layers)
        return shape.model_copy(update={"parameters": max(parameters, largest), "largest_layer": largest})
    if has_unknown_experts(config):
        raise ConfigurationError(
            f"{where}: the experts of model_type {shape.architecture!r} cannot be counted from its config.json",
            f"keep {WEIGHT_INDEX} beside it, which says how large the weights are",
        )
    return shape


def _parse(content: bytes, where: str) -> dict[str, Any]:
    try:
        config: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{where} is not JSON: {error}", "write the model's folder again") from error
    if not isinstance(config, dict):
        raise ConfigurationError(f"{where} is not a JSON object", "name the folder of a model")
    return config


def _parameters_of_index(read_index: Callable[[], bytes], shape: ModelShape) -> int | None:
    """Parameters by the size of the weights, where an index says it; None where there is none."""
    try:
        metadata = _parse(read_index(), WEIGHT_INDEX).get("metadata")
    except InputMissingError:
        return None
    size = metadata.get("total_size") if isinstance(metadata, dict) else None
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < _MOST_BYTES_OF_WEIGHTS:
        return None
    return int(size) // BYTES_OF_DTYPE.get(shape.stored_dtype or "", 2)


_MOST_BYTES_OF_WEIGHTS = 10**16
