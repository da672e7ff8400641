"""An adapter's `adapter_config.json`, as peft writes it: which model the adapter is for. Torch-free and pure.

`base_model_name_or_path` is what peft loads the base from: a name on the Hugging Face Hub, or a folder. A base on s3://
or pvc://, which peft cannot read, is recorded by its URI.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from zerotune_trainer.config.adapter import StoredAdapter
from zerotune_trainer.config.base import ModelUri
from zerotune_trainer.errors import ConfigurationError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_PEFT_DEFAULT = 8
"""Rank and scale of an adapter whose configuration names none."""
_MOST_OF_NAMES = 1024
"""Characters of the names of modules in all: what is known of a model fits a termination message."""
_MERGE_IT = "merge it into its model with peft's merge_and_unload(), and give the folder of that"
_URI = TypeAdapter[str](ModelUri)


class Base(NamedTuple):
    """The model that an adapter is for."""

    uri: str
    revision: str | None = None
    """Branch, tag or commit of a model on the Hub."""


def read_base(content: bytes, where: str) -> Base:
    """The base that an `adapter_config.json` names.

    Args:
        content: Content of the file.
        where: Its name, for errors.

    Raises:
        ConfigurationError: it describes no LoRA adapter, or names no base that can be found.
    """
    config = _parse(content, where)
    if config.get("peft_type") != "LORA":
        kind = config.get("peft_type")
        raise ConfigurationError(f"{where} describes an adapter of type {kind!r}, not LORA", _MERGE_IT)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    try:
        uri = _URI.validate_python(_uri_of(name))
    except ValidationError as error:
        raise ConfigurationError(
            f"{where} names the base {name!r}, which is neither a model on the Hugging Face Hub nor an absolute path",
            "let base_model_name_or_path name the base: ORG/NAME, /PATH, s3://BUCKET/PREFIX or pvc://CLAIM/PATH",
        ) from error
    return Base(uri, revision if uri.startswith("hf://") and isinstance(revision, str) else None)


def read_stored(content: bytes, where: str) -> StoredAdapter:
    """What an `adapter_config.json` says of the adapter; what it leaves out is as peft has it.

    Raises:
        ConfigurationError: a value is none that an adapter can have.
    """
    config = _parse(content, where)
    targets = config.get("target_modules")
    names = targets if isinstance(targets, list) and sum(map(len, map(str, targets))) <= _MOST_OF_NAMES else None
    try:
        return StoredAdapter(
            r=config.get("r", _PEFT_DEFAULT),
            alpha=config.get("lora_alpha", _PEFT_DEFAULT),
            target_modules=names,
            modules_to_save=config.get("modules_to_save") or [],
            use_dora=config.get("use_dora") or False,
            use_rslora=config.get("use_rslora") or False,
        )
    except ValidationError as error:
        field = error.errors()[0]
        raise ConfigurationError(
            f"{where}: {field['loc'][0]} is {field['input']!r}, which no adapter has: {field['msg']}",
            "give the folder of an adapter as peft writes it",
        ) from error


def _uri_of(name: Any) -> Any:
    if not isinstance(name, str) or "://" in name:
        return name
    return f"file://{name}" if name.startswith("/") else f"hf://{name}"


def recorded_name(uri: str) -> str:
    """What `base_model_name_or_path` says for the base at a URI."""
    scheme, _, rest = uri.partition("://")
    return {"hf": rest.strip("/"), "file": rest}.get(scheme, uri)


def _parse(content: bytes, where: str) -> dict[str, Any]:
    try:
        config: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{where} is not JSON: {error}", "write the adapter's folder again") from error
    if not isinstance(config, dict):
        raise ConfigurationError(f"{where} is not a JSON object", "write the adapter's folder again")
    return config
