"""Quantized checkpoints: how a `config.json` says that it is of one, and which jobs can use it. Torch-free.

transformers loads some of them for training, too, and saves what it trained under the old `quantization_config`: the
result loads as noise. So training takes none; see `transformers.quantizers` for what its own loading can do.
"""

from __future__ import annotations

from typing import Any

from zerotune_trainer.errors import ConfigurationError

DEQUANTIZED = frozenset({"fp8"})
"""Methods whose weights transformers converts back into bf16 or fp32 while it loads them, on any device."""

_CONFIG_KEYS = ("quantization_config", "compression_config")


def quantization_of(config: dict[str, Any]) -> str | None:
    """The method by which the weights beside a `config.json` are quantized; None where they are not.

    Args:
        config: Content of the file.
    """
    nested = config.get("text_config")
    for part in (config, nested if isinstance(nested, dict) else {}):
        for key in _CONFIG_KEYS:
            if part.get(key) is not None:
                return _method(part[key])
    return None


def check_trainable(quantization: str | None, where: str) -> None:
    """See that training can start from the weights of a model, whether it changes them or not.

    Args:
        quantization: As `quantization_of` says.
        where: The model, for the error.

    Raises:
        ConfigurationError: they are quantized.
    """
    if quantization is not None:
        raise ConfigurationError(
            f"{where}: the weights are quantized ({quantization}), and training starts from weights in bf16 or fp32",
            "give the model's weights in bf16 or fp32, which adapter.type: qlora quantizes itself: the model that the "
            "quantized one was made from, or the quantized one loaded with transformers, `dequantize()`d and saved",
        )


def check_generates(quantization: str | None, where: str) -> None:
    """See that text can be generated with a model.

    Args:
        quantization: As `quantization_of` says.
        where: The model, for the error.

    Raises:
        ConfigurationError: it is quantized, in a way that takes a package which the trainer's image does not have.
    """
    if quantization is not None and quantization not in DEQUANTIZED:
        raise ConfigurationError(
            f"{where}: the weights are quantized ({quantization}), which the trainer cannot load",
            f"give the model's weights in bf16 or fp32, or quantized as {', '.join(sorted(DEQUANTIZED))}",
        )


def _method(settings: Any) -> str:
    """The method that a `quantization_config` names; older files of bitsandbytes name none."""
    if not isinstance(settings, dict):
        return "unknown"
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        return "bitsandbytes"
    return str(settings.get("quant_method", "unknown"))[:_LONGEST_METHOD]


_LONGEST_METHOD = 40
