"""The tokenizer and the model that a job starts from, loaded whole or refused."""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from zerotune_trainer.config import InferConfig, TrainConfig
from zerotune_trainer.config.sources import Model
from zerotune_trainer.config.training import Precision
from zerotune_trainer.errors import (
    ConfigurationError,
    InputMissingError,
    InternalError,
    ModelChangedError,
    ZerotuneError,
)
from zerotune_trainer.launching.failures import classify
from zerotune_trainer.sizing.model_config import require_weights, shape_of_file
from zerotune_trainer.sizing.quantization import check_generates, check_trainable

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


def load_tokenizer(model: Model, folder: Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with the spec's chat template where it gives one.

    A tokenizer without a padding token pads with its end token; padding has no loss, an end token that belongs to
    the text keeps its own.

    Raises:
        InputMissingError: the folder holds no tokenizer.
        ConfigurationError: it has neither a padding nor an end token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError) as error:
        raise InputMissingError(
            f"{folder} holds no tokenizer: {error}", "put the model's tokenizer files there"
        ) from error
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ConfigurationError(
                f"the tokenizer in {folder} has neither a padding nor an end token",
                "set eos_token in tokenizer_config.json",
            )
        tokenizer.pad_token = tokenizer.eos_token
    if model.chat_template is not None:
        tokenizer.chat_template = model.chat_template
    return tokenizer


def load_model(
    model: Model, folder: Path, precision: str, accelerator: str, device: str | None = None
) -> PreTrainedModel:
    """The model with all its weights in the dtype of `precision` (bf16, fp16 or fp32).

    With `device` the weights go straight there (accelerate's device map), without a copy in host memory.

    Under ZeRO-3 the caller keeps a HfDeepSpeedConfig alive, and the weights come partitioned.

    Raises:
        ConfigurationError: config.json and the weights disagree, a weight is missing, or the attention is not there.
        OutOfMemoryError, PeerLostError, TemporaryError, InternalError: what has nothing to do with the folder.
    """
    try:
        loaded, info = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
            folder,
            config=_config(model, folder),
            dtype=DTYPES[precision],
            attn_implementation=attention(model.attn_implementation, accelerator),
            trust_remote_code=model.trust_remote_code,
            device_map=None if device is None else {"": device},
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise _load_error(folder, error) from error
    missing: set[str] = info["missing_keys"]  # type: ignore[has-type]
    if missing:
        raise ConfigurationError(f"{folder} lacks the weights {_some(missing)}", _MEND)
    _log.info("attention %s, precision %s", loaded.config._attn_implementation, precision)  # type: ignore[has-type]
    return cast(PreTrainedModel, loaded)  # type: ignore[has-type]


def _config(model: Model, folder: Path) -> PretrainedConfig:
    """The model's config; weights that are stored quantized are wanted as they were before."""
    config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
    quantized = getattr(config, "quantization_config", None)
    if quantized is not None:
        quantized["dequantize"] = True
    return config


def _load_error(folder: Path, error: Exception) -> ZerotuneError:
    """What an error while loading means: the folder is at fault unless memory, another rank or the machine is."""
    found = classify(error)
    of_machine = isinstance(error, dist.DistError | torch.AcceleratorError) or getattr(error, "errno", None) is not None
    if isinstance(found, ConfigurationError | InputMissingError) or (
        isinstance(found, InternalError) and not of_machine
    ):
        return ConfigurationError(f"{folder} does not load as a causal language model: {error}", _MEND)
    return found


def load_for_training(config: TrainConfig, folder: Path) -> PreTrainedModel:
    """The model in the precision of training, once it is clear that what training asks for is there.

    Raises:
        ZerotuneError: as `load_model`; a ConfigurationError also without CUDA or package for the Liger kernels.
    """
    accelerator = config.launch.accelerator
    if config.training.use_liger_kernel:
        check_liger(accelerator)
    return load_model(config.model, folder, resolve_precision(config.training.precision, accelerator), accelerator)


def attention(implementation: str, accelerator: str) -> str:
    """The attention kernels to use: `auto` takes flash_attention_2 where a CUDA device and the package are there.

    Raises:
        ConfigurationError: flash_attention_2 was asked for by name and is not there.
    """
    flash = accelerator == "cuda" and importlib.util.find_spec("flash_attn") is not None
    if implementation == "auto":
        return "flash_attention_2" if flash else "sdpa"
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


_MEND = "give a complete Hugging Face folder: config.json and the weights that belong to it"


def check_config(config: TrainConfig | InferConfig, folder: Path) -> None:
    """See that the job can use the model, and that it is the one that the plan was made for: memory and DeepSpeed's
    settings are sized by it.

    Raises:
        InputMissingError: there is no config.json.
        ConfigurationError: it is not one of a language model, or the weights are quantized.
        ModelChangedError: it is another one by now.
    """
    path = folder / "config.json"
    found = shape_of_file(path)
    check = check_trainable if isinstance(config, TrainConfig) else check_generates
    check(found.quantization, str(path))
    planned = config.model_shape
    if planned is None or found == planned:
        return
    before, now = planned.model_dump(by_alias=True), found.model_dump(by_alias=True)
    changed = [f"{name} {now[name]} instead of {before[name]}" for name in now if now[name] != before[name]]
    raise ModelChangedError(
        f"{folder} is another model than the one that the job was planned for: {', '.join(changed)}",
        "the next attempt is planned for the model as it is",
    )


def check_weights(model: Model, folder: Path) -> None:
    """Compare the shapes in the weight files with those that config.json asks for.

    Call it before the ranks join: under ZeRO-3 only rank 0 reads weights, and a shape that it trips over would leave
    the others waiting.

    Raises:
        InputMissingError: the folder holds no weights.
        ConfigurationError: a file cannot be read, or a weight has another shape.
    """
    require_weights(folder)
    expected = _expected_shapes(model, folder)
    wrong = [
        f"{name} is {_shape(shape)}, config.json asks for {_shape(expected[name])}"
        for path in _weight_files(folder)
        for name, shape in _stored_shapes(path).items()
        if name in expected and shape != expected[name]
    ]
    if wrong:
        raise ConfigurationError(f"{folder}: {_some(wrong)}", _MEND)


def _expected_shapes(model: Model, folder: Path) -> dict[str, tuple[int, ...]]:
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, trust_remote_code=model.trust_remote_code
            )
    except (OSError, ValueError) as error:
        remedy = "set model.trustRemoteCode, if you trust it" if "trust_remote_code" in str(error) else _MEND
        raise ConfigurationError(f"{folder} is not a causal language model: {error}", remedy) from error
    return {name: tuple(value.shape) for name, value in empty.state_dict().items()}


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return sorted(folder.glob("model*.safetensors"))
    names: dict[str, Any] = json.loads(index.read_bytes())["weight_map"]
    files = [folder / name for name in sorted(set(names.values()))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputMissingError(f"{folder} lacks {_some(missing)}, which {index.name} names", _MEND)
    return files


def _stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="pt") as weights:
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ConfigurationError(
            f"{path} is not a whole safetensors file: {error}", "fetch or copy it again"
        ) from error
    except OSError as error:
        # safetensors has the same words, and no errno, for a file that is missing and for one that may not be read.
        raise ConfigurationError(
            f"{path} cannot be read: {error}", "let the user that runs the job read it: safetensors writes mode 0600"
        ) from error


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)


def _some(items: Any, limit: int = 5) -> str:
    texts = sorted(str(item) for item in items)
    return ", ".join(texts[:limit]) + (f" and {len(texts) - limit} more" if len(texts) > limit else "")
