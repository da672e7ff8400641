"""The base of a qlora adapter, whose linear layers bitsandbytes quantizes as they are loaded (arXiv 2305.14314).

transformers leaves the head, the embeddings and the norms as they are. peft's `prepare_model_for_kbit_training` is not
called: what it freezes peft's adapter freezes too, gradient checkpointing is the job's to ask for, and the fp32 that it
casts everything else to DeepSpeed would cast back to the precision of training.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from zerotune_trainer.config.adapter import Adapter, no_layers
from zerotune_trainer.model_checks import not_finite, weight_files

# It warns with each call of each layer that int8 is computed in fp16, and of kernels for CPU that are not installed.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def quantization_config(adapter: Adapter, empty: PreTrainedModel, dtype: torch.dtype) -> BitsAndBytesConfig:
    """How the base of an adapter is quantized.

    Args:
        adapter: A qlora adapter. The modules that it trains whole stay as they are.
        empty: The model, see `model_checks.empty_model`.
        dtype: That of training, which 4-bit weights are computed in.
    """
    in_four_bits = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": adapter.base_quantization,
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
    }
    settings = {"load_in_8bit": True} if adapter.base_quantization == "int8" else in_four_bits
    kept = _kept_modules(adapter, empty)
    return BitsAndBytesConfig(**settings, llm_int8_skip_modules=kept)  # type: ignore[no-untyped-call]


def keep_layers(model: PreTrainedModel) -> None:
    """Have quantized layers compute in evaluation what they compute in training, and leave them out of checkpoints.

    In evaluation bitsandbytes computes otherwise on CPUs: a layer of 4 bits takes another layout, which it keeps when
    training goes on, and through which no gradient passes; one of int8 rounds its inputs too, so that a reference
    would differ from the model that begins as the reference. The constants of a layer would be saved as if they were
    trained: a resumed job makes them anew from the same weights.

    Raises:
        ConfigurationError: no layer is quantized.
    """
    layers = list(_quantized_layers(model))
    if not layers:
        raise no_layers(model.config.model_type)
    for layer in layers:
        layer.train()
        layer.train = lambda _mode=True, layer=layer: layer
        layer.register_state_dict_post_hook(_leave_out)


def check_stored_weights(folder: Path, dtype: torch.dtype) -> None:
    """See that stored weights are numbers in a dtype: it cannot be seen once they are quantized.

    Raises:
        ConfigurationError: some are NaN or infinite.
    """
    broken = [name for path in weight_files(folder, str(folder)) for name in _broken(path, dtype)]
    if broken:
        raise not_finite(folder, dtype, broken)


def _quantized_layers(model: nn.Module) -> Iterator[Any]:
    # Here, since other jobs need nothing of it.
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    return (module for module in model.modules() if isinstance(module, Linear4bit | Linear8bitLt))


def _kept_modules(adapter: Adapter, empty: PreTrainedModel) -> list[str] | None:
    """Patterns of the modules that are not quantized; None stands for those that transformers keeps anyway."""
    if not adapter.modules_to_save:
        return None
    from transformers.quantizers.base import get_keys_to_not_convert

    kept = cast("list[str]", get_keys_to_not_convert(empty))
    return [*kept, *(rf".*{re.escape(name)}" for name in adapter.modules_to_save)]


def _leave_out(_: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        del state[name]


def _broken(path: Path, dtype: torch.dtype) -> Iterator[str]:
    with safe_open(path, framework="pt") as stored:
        for name in stored.keys():  # noqa: SIM118
            weight = stored.get_tensor(name)
            if weight.is_floating_point() and weight.numel() and not _is_finite(weight, dtype):
                yield name


def _is_finite(weight: torch.Tensor, dtype: torch.dtype) -> bool:
    return all(bool(each.to(dtype).isfinite()) for each in weight.aminmax())
