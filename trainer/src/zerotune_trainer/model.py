"""The model that a job starts from, loaded whole or rejected."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from zerotune_trainer import adapters, quantized_base
from zerotune_trainer.adapters import ModelFolders
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.sources import Model
from zerotune_trainer.config.training import Precision
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.input_errors import input_errors
from zerotune_trainer.model_checks import MEND, embedding_count, empty_model, not_finite, some, token_count
from zerotune_trainer.without_mlflow import deepspeed  # noqa: F401 - before its parts

# isort: split
from deepspeed.runtime.swap_tensor.partitioned_param_swapper import PartitionedParamStatus

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_log = logging.getLogger(__name__)


def resolve_precision(precision: Precision, accelerator: str) -> str:
    """`auto` made definite: bf16 on CUDA, fp32 on CPU.

    Raises:
        ConfigurationError: fp16 on CPU, or bf16 on a CUDA device without it.
    """
    if precision == "fp16" and accelerator == "cpu":
        raise ConfigurationError(
            "precision fp16 needs a CUDA device, and this job runs on CPU", "use bf16 or fp32 on CPU"
        )
    if precision == "bf16" and accelerator == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigurationError(f"{torch.cuda.get_device_name()} has no bf16", "use fp16 or fp32 on this device")
    if precision == "auto":
        return "bf16" if accelerator == "cuda" else "fp32"
    return precision


def load_model(
    model: Model,
    folder: Path,
    precision: str,
    accelerator: str,
    device: str | None = None,
    quantization: BitsAndBytesConfig | None = None,
) -> PreTrainedModel:
    """The model with all its weights in the dtype of `precision` (bf16, fp16 or fp32).

    With `device` the weights go straight there (accelerate's device map), without a copy in host memory; with
    `quantization` each of them is quantized as it arrives.

    Under ZeRO-3 the caller keeps a HfDeepSpeedConfig alive, and the weights come partitioned.

    Raises:
        ConfigurationError: config.json and the weights disagree, a weight is missing, or the attention is not there.
        OutOfMemoryError, PeerLostError, TemporaryError, InternalError: what has nothing to do with the folder.
    """
    with input_errors(ConfigurationError, f"{folder} does not load as a causal language model", MEND):
        loaded, info = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
            folder,
            config=_config(model, folder),
            dtype=DTYPES[precision],
            attn_implementation=attention(model.attn_implementation, accelerator),
            trust_remote_code=model.trust_remote_code,
            device_map=None if device is None else {"": device},
            quantization_config=quantization,
            output_loading_info=True,
        )
    missing: set[str] = info["missing_keys"]  # type: ignore[has-type]
    if missing:
        raise ConfigurationError(f"{folder} lacks the weights {some(missing)}", MEND)
    check_finite(loaded, folder)  # type: ignore[has-type]
    _log.info("attention %s, precision %s", loaded.config._attn_implementation, precision)  # type: ignore[has-type]
    return cast(PreTrainedModel, loaded)  # type: ignore[has-type]


def check_finite(model: PreTrainedModel, folder: Path) -> None:
    """See that the weights are numbers, those of this rank where ZeRO-3 shares them out.

    Raises:
        ConfigurationError: some are NaN or infinite.
    """
    broken = [name for name, parameter in model.named_parameters() if not _is_finite(parameter)]
    if broken:
        raise not_finite(folder, model.dtype, broken)


def _is_finite(parameter: nn.Parameter) -> bool:
    """Whether what this rank holds of a parameter is finite."""
    with _held(parameter) as held:
        # By the extremes, of which there are two: a mask of all elements would take half as much memory as the weights.
        return held.numel() == 0 or all(bool(each.isfinite()) for each in held.detach().aminmax())


@contextmanager
def _held(parameter: nn.Parameter) -> Iterator[torch.Tensor]:
    """What this rank holds of a parameter: its partition under ZeRO-3, read back where it is on disk."""
    held: Any = getattr(parameter, "ds_tensor", parameter)
    swapper: Any = getattr(parameter, "nvme_swapper", None)
    if swapper is None or held.status is not PartitionedParamStatus.NOT_AVAILABLE:
        yield held
        return
    swapper.swap_in([parameter], async_op=False)
    yield held
    swapper.remove_partition_and_release_buffers([parameter])


def _config(model: Model, folder: Path) -> PretrainedConfig:
    """The model's config; weights that are stored quantized are wanted as they were before."""
    config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
    quantized = getattr(config, "quantization_config", None)
    if quantized is not None:
        quantized["dequantize"] = True
    return config


def load_for_training(
    config: TrainConfig, folders: ModelFolders, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel | PeftModel:
    """The model in the precision of training, once it is clear that what training asks for is there; with the adapter
    that is trained, where one is.

    Raises:
        ZerotuneError: as `load_initial` and `adapters.attach`; a ConfigurationError also without CUDA or package for
            the Liger kernels.
    """
    if config.training.use_liger_kernel:
        check_liger(config.launch.accelerator)
    if config.adapter is None:
        return load_initial(config, folders, tokenizer)
    return adapters.attach(_load_base(config, folders), config.adapter, folders, config.training.seed)


def load_initial(
    config: TrainConfig, folders: ModelFolders, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel | PeftModel:
    """The model as it is before training, an adapter that it comes with merged into it, or over it where the base is
    quantized; grown to the tokenizer's size where the job asks for that.

    Raises:
        ZerotuneError: as `load_model` and `adapters.merge`.
    """
    loaded = _load_base(config, folders)
    if folders.adapter is not None:
        if config.adapter is not None and config.adapter.base_quantization:
            return adapters.load_frozen(loaded, folders.adapter)
        loaded = adapters.merge(loaded, folders.adapter)
    if config.model.resize_embeddings:
        grow_embeddings(loaded, token_count(tokenizer), config.training.seed)
    return loaded


def _load_base(config: TrainConfig, folders: ModelFolders) -> PreTrainedModel:
    accelerator = config.launch.accelerator
    precision = resolve_precision(config.training.precision, accelerator)
    if config.adapter is None or config.adapter.base_quantization is None:
        return load_model(config.model, folders.base, precision, accelerator)
    dtype, empty = DTYPES[precision], empty_model(config.model, folders.base)
    quantized_base.check_stored_weights(folders.base, dtype)
    quantization = quantized_base.quantization_config(config.adapter, empty, dtype)
    # Straight to where they are computed with: there, and not in host memory, they are quantized.
    device = "cpu" if accelerator == "cpu" else f"cuda:{torch.cuda.current_device()}"
    loaded = load_model(config.model, folders.base, precision, accelerator, device, quantization)
    quantized_base.keep_layers(loaded)
    return loaded


def load_merged(config: TrainConfig, base: Path, adapter: Path) -> PreTrainedModel:
    """The base with an adapter merged into it, in host memory and in the precision of training.

    Raises:
        ZerotuneError: as `load_model` and `adapters.merge`.
    """
    accelerator = config.launch.accelerator
    precision = resolve_precision(config.training.precision, accelerator)
    return adapters.merge(load_model(config.model, base, precision, accelerator, "cpu"), adapter)


def grow_embeddings(model: PreTrainedModel, tokens: int, seed: int) -> None:
    """Give a model embeddings, and a head, for `tokens` tokens, where it has fewer. Larger ones stay as they are.

    The new ones are drawn from a normal distribution with the mean and the covariance of the others (Hewitt 2021,
    https://nlp.stanford.edu/~johnhew/vocab-expansion.html), the same on every rank and in every attempt.
    """
    before = embedding_count(model)
    if tokens <= before:
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.resize_token_embeddings(tokens)
    _log.info("embeddings grown from %d to %d tokens", before, tokens)


def attention(implementation: str, accelerator: str) -> str | None:
    """The attention kernels to use: `auto` takes flash_attention_2 where a CUDA device and the package are there.

    None: transformers decides, which takes sdpa where the model has it, else eager.

    Raises:
        ConfigurationError: flash_attention_2 was asked for by name and is not there.
    """
    flash = accelerator == "cuda" and importlib.util.find_spec("flash_attn") is not None
    if implementation == "auto":
        return "flash_attention_2" if flash else None
    if implementation == "flash_attention_2" and not flash:
        raise ConfigurationError(
            "model.attnImplementation flash_attention_2 needs a CUDA device and the package flash-attn",
            "use auto, which takes sdpa where they are not there",
        )
    return implementation


def check_liger(accelerator: str) -> None:
    """See that the Liger kernels can run.

    Raises:
        ConfigurationError: no CUDA device, or no package liger-kernel.
    """
    if accelerator != "cuda" or importlib.util.find_spec("liger_kernel") is None:
        raise ConfigurationError(
            "training.useLigerKernel needs a CUDA device and the package liger-kernel", "leave useLigerKernel out"
        )
