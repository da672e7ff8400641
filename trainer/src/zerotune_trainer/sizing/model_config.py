"""A model's shape from its `config.json`, wherever that lies; nothing else of the model is fetched. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError, InputMissingError
from zerotune_trainer.sizing.adapter_config import ADAPTER_CONFIG, Base, read_base, read_stored
from zerotune_trainer.sizing.adapter_weights import check_base
from zerotune_trainer.sizing.host import BYTES_OF_DTYPE
from zerotune_trainer.sizing.hub import reader_of_hub
from zerotune_trainer.sizing.model_folder import WEIGHT_INDEX, Reader, reader_of_folder
from zerotune_trainer.sizing.shape import has_unknown_experts, read_shape


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
            where, read = rest.rstrip("/"), reader_of_folder(Path(rest))
        case "hf":
            where, read = reader_of_hub(rest.strip("/"), revision or "main")
        case "s3":
            where = uri.rstrip("/")
            read = lambda name: read_s3(f"{where}/{name}")  # noqa: E731
        case _:
            raise ConfigurationError(
                f"the shape of {uri} cannot be read from here",
                "only what has mounted the claim can: there it is file:///PATH",
            )
    shape = _shape_of_folder(where, read, lambda base: model_shape(resolve(base.uri), base.revision, read_s3, resolve))
    if scheme == "file" and shape.adapter is not None:
        check_base(Path(rest), shape)
    return shape


def _shape_of_folder(where: str, read: Reader, shape_of: Callable[[Base], ModelShape]) -> ModelShape:
    """The shape of the model in a folder, or of the base of the adapter there."""
    try:
        content = read("config.json")
    except InputMissingError:
        try:
            adapter = read(ADAPTER_CONFIG)
        except InputMissingError:
            adapter = None
        if adapter is None:
            raise
        name = f"{where}/{ADAPTER_CONFIG}"
        base, stored = read_base(adapter, name), read_stored(adapter, name)
        shape = shape_of(base)
        if shape.base_uri is not None:
            raise ConfigurationError(
                f"{name} names the base {base.uri}, which is an adapter itself",
                "merge that adapter into its model, and train an adapter of the merged model",
            ) from None
        return shape.model_copy(update={"base_uri": base.uri, "adapter": stored})
    return _shape_of_content(content, f"{where}/config.json", lambda: read(WEIGHT_INDEX))


def shape_of_file(path: Path) -> ModelShape:
    """The shape that a `config.json` on this machine describes.

    Raises:
        InputMissingError: there is no such file.
        ConfigurationError: it is not the config.json of a language model.
    """
    read = reader_of_folder(path.parent)
    return _shape_of_content(read(path.name), str(path), lambda: read(WEIGHT_INDEX))


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
