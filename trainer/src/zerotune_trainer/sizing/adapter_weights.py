"""The shapes of an adapter's weights, which say what base it was trained on. Torch-free: only the header is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.adapter_config import ADAPTER_CONFIG, ADAPTER_WEIGHTS

_MATRIX = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<matrix>[AB])\.weight$")
_MOST_BYTES_OF_HEADER = 100 << 20
"""What the format allows."""
_READ_HIDDEN = ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "gate_proj", "up_proj", "c_fc")
_WRITE_HIDDEN = ("o_proj", "down_proj", "dense_4h_to_h")


class Change(NamedTuple):
    """A change of a layer's inputs or outputs, as one weight of the adapter has it."""

    module: str
    side: str
    """`inputs` or `outputs`."""
    width: int

    @property
    def last_name(self) -> str:
        """The end of the module's name: `q_proj`."""
        return self.module.rpartition(".")[2]


def changes_of(folder: Path) -> Iterator[Change]:
    """What the weights of a folder change; nothing where it has none, or none in safetensors."""
    for name, weight in _header(folder / ADAPTER_WEIGHTS).items():
        match, shape = _MATRIX.match(name), weight.get("shape") if isinstance(weight, dict) else None
        if match and isinstance(shape, list) and len(shape) == 2:
            side, width = ("inputs", shape[1]) if match["matrix"] == "A" else ("outputs", shape[0])
            yield Change(match["module"], side, width)


def check_base(folder: Path, base: ModelShape) -> None:
    """See that an adapter is for a model of this width, as far as the names of the layers show.

    Raises:
        ConfigurationError: it is for another one.
    """
    for change in changes_of(folder) if base.exact else ():
        of_hidden = _READ_HIDDEN if change.side == "inputs" else _WRITE_HIDDEN
        if change.last_name in of_hidden and change.width != base.hidden_size:
            raise of_another_base(folder, change, base.hidden_size)


def of_another_base(folder: Path, change: Change, width: int) -> ConfigurationError:
    """The error that an adapter was trained on another base.

    Args:
        folder: Holds the adapter.
        change: What it changes.
        width: How many the base has of these.
    """
    return ConfigurationError(
        f"{folder} holds an adapter of another base: it is for {change.width} {change.side} of {change.module}, and "
        f"the base has {width}",
        f"let base_model_name_or_path in {ADAPTER_CONFIG} name the model that the adapter was trained on, or train a "
        "new adapter",
    )


def _header(path: Path) -> dict[str, object]:
    """What a file of safetensors says of its tensors; nothing where it cannot be read, which loading reports."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size <= _MOST_BYTES_OF_HEADER else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}
