"""Starting vLLM: on which devices, with which of its options, from which folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

from zerotune_trainer import model as models
from zerotune_trainer.adapters import ModelFolders, merge
from zerotune_trainer.config import InferConfig
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.inference.engine import ModelReplica
from zerotune_trainer.sizing.kv_cache import kv_cache_bytes
from zerotune_trainer.sizing.workload import Precision

GPU_SHARE = 0.9
"""Share of a GPU's memory that vLLM takes: of weights, and of keys and values in what is left."""
_LEAST_CACHE = 64 << 20
"""Bytes of keys and values on CPU, where those of the job are fewer."""
_DEVICES = "CUDA_VISIBLE_DEVICES"


def start(config: InferConfig, folders: ModelFolders, replica: ModelReplica, shape: ModelShape) -> Any:
    """A vLLM engine on the devices of the replica's ranks.

    Raises:
        ConfigurationError: vLLM cannot run this model here.
    """
    kept = Path(config.launch.cache_dir).absolute() / "vllm"
    os.environ.update(VLLM_NO_USAGE_STATS="1", VLLM_WORKER_MULTIPROC_METHOD="spawn", VLLM_CACHE_ROOT=str(kept))
    # It reads both: vLLM in this process, and in those that it starts.
    tempfile.tempdir = os.environ["TMPDIR"] = temporary_folder().name
    if config.launch.accelerator == "cuda":
        os.environ[_DEVICES] = _devices(os.environ.get(_DEVICES), replica)
    from vllm import EngineArgs, LLMEngine

    with _whole_model(config, folders, replica) as folder:
        arguments = _engine_arguments(config, folder, folders.tokenizer, len(replica.ranks), shape)
        try:
            return LLMEngine.from_engine_args(EngineArgs(**arguments))
        except (ValueError, RuntimeError) as error:
            raise ConfigurationError(
                f"vLLM does not start with {config.model_uri}: {str(error).splitlines()[0]}",
                "see what vLLM wrote above it in this rank's log, or set engine: transformers",
            ) from error


@cache
def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """The folder for the sockets and files that vLLM leaves behind: to be removed once vLLM has ended."""
    return tempfile.TemporaryDirectory(prefix="vllm-")


@contextmanager
def _whole_model(config: InferConfig, folders: ModelFolders, replica: ModelReplica) -> Iterator[Path]:
    """The folder of the model, while vLLM reads it: where that is an adapter, of both merged."""
    if folders.adapter is None:
        yield folders.base
        return
    precision = models.resolve_precision(config.precision, config.launch.accelerator)
    Path(config.launch.cache_dir).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=config.launch.cache_dir, prefix=f"merged-{replica.leader}-") as name:
        base = models.load_model(config.model, folders.base, precision, config.launch.accelerator, "cpu")
        merge(base, folders.adapter).save_pretrained(name)
        yield Path(name)


def _engine_arguments(
    config: InferConfig, model: Path, tokenizer: Path, ranks: int, shape: ModelShape
) -> dict[str, Any]:
    """The options of vLLM's `EngineArgs`."""
    accelerator, size = config.launch.accelerator, config.per_device_batch_size
    precision = models.resolve_precision(config.precision, accelerator)
    arguments: dict[str, Any] = {
        "model": str(model),
        "tokenizer": str(tokenizer),
        "skip_tokenizer_init": not config.generation.stop_strings,
        "trust_remote_code": config.model.trust_remote_code,
        "dtype": str(models.DTYPES[precision]).removeprefix("torch."),
        "tensor_parallel_size": ranks,
        "max_num_seqs": size * ranks,
        # Only the spec's options count, as with the other engines.
        "generation_config": "vllm",
        "disable_log_stats": True,
    }
    if accelerator == "cuda":
        return arguments | {"gpu_memory_utilization": GPU_SHARE}
    length = shape.context or 0
    if config.data.max_length:
        length = config.data.max_length + config.generation.max_new_tokens
    # Left alone, vLLM takes 92% of the host's memory for keys and values.
    cache = kv_cache_bytes(shape, cast(Precision, precision), size, length)
    return arguments | {"kv_cache_memory_bytes": max(cache, _LEAST_CACHE), "enforce_eager": True}


def _devices(visible: str | None, replica: ModelReplica) -> str:
    """The GPUs of the replica's ranks, of those that its host shows."""
    numbers = range(replica.local_rank, replica.local_rank + len(replica.ranks))
    shown = visible.split(",") if visible else None
    return ",".join(shown[number] if shown else str(number) for number in numbers)
