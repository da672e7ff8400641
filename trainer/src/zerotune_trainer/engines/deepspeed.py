"""Engine `deepspeed`: DeepSpeed's inference engine. AutoTP splits each layer over the ranks of a replica.

All of them generate for the same records: a forward pass is made by all together, and each has a part of the attention
heads, of their keys and values, and of the MLP. See https://www.deepspeed.ai/tutorials/automatic-tensor-parallelism/.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Self, cast

import torch
import torch.distributed as dist
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zerotune_trainer import model as models
from zerotune_trainer.adapters import merge, model_folders
from zerotune_trainer.causality import check_causality
from zerotune_trainer.config import InferConfig
from zerotune_trainer.config.generation import Embedding, Generation, Task
from zerotune_trainer.data.tokenizer import load_tokenizer
from zerotune_trainer.engines.lockstep import Lockstep, nothing
from zerotune_trainer.engines.transformers import TransformersEngine
from zerotune_trainer.inference.engine import ModelReplica, OnToken, Request, Results
from zerotune_trainer.sizing.model_config import shape_of_file
from zerotune_trainer.sizing.tensor_parallel import check_tensor_parallel
from zerotune_trainer.without_mlflow import deepspeed

_STORED = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_log = logging.getLogger(__name__)


class DeepSpeedEngine(TransformersEngine):
    """Generates with a model whose layers are split over the ranks of a replica."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        generation: Generation,
        batch_size: int,
        task: Task,
        group: dist.ProcessGroup,
        embedding: Embedding | None = None,
    ) -> None:
        super().__init__(model, tokenizer, generation, batch_size * group.size(), task, embedding)
        self._lockstep = Lockstep(model, self.device, self.pad, group)

    @classmethod
    def ranks_per_model_replica(cls, config: InferConfig, world_size: int) -> int:  # noqa: ARG003
        """See Engine."""
        return config.tensor_parallel

    @classmethod
    def load(cls, config: InferConfig, replica: ModelReplica) -> Self:
        """See Engine."""
        folders = model_folders(config)
        shape = shape_of_file(folders.base / "config.json")
        check_tensor_parallel(shape, len(replica.ranks))
        accelerator = config.launch.accelerator
        precision = models.resolve_precision(config.precision, accelerator)
        group, _ = dist.new_subgroups(len(replica.ranks))
        # As it is stored, the model is a view of its files: a rank copies its shards alone, and converts those.
        loaded = _load(config, folders.base, _STORED.get(shape.stored_dtype or "", precision))
        if folders.adapter is not None:  # Each rank merges all of it, into memory of its own, before it is split.
            loaded = merge(loaded, folders.adapter)
        shards = split(loaded, group, models.DTYPES[precision])
        check_causality(shards)
        tokenizer = load_tokenizer(config.model, folders.tokenizer)
        size = config.per_device_batch_size
        return cls(shards, tokenizer, config.generation, size, config.task, group, config.embedding)

    def results(self, batch: Sequence[Request], on_token: OnToken) -> list[Results]:
        """As of a whole copy of the model; the ranks of the replica stop at the same token."""
        self._lockstep.begin(on_token)
        return super().results(batch, nothing)


class _Group:
    """What DeepSpeed asks for the ranks that split a model: without one it would split over the first ranks alone."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group

    def get_model_parallel_group(self) -> dist.ProcessGroup:
        """The ranks."""
        return self._group


def _load(config: InferConfig, folder: Path, precision: str) -> PreTrainedModel:
    return models.load_model(config.model, folder, precision, config.launch.accelerator, "cpu")


def split(model: PreTrainedModel, group: dist.ProcessGroup, dtype: torch.dtype) -> PreTrainedModel:
    """The model with this rank's part of its layers, on its device, the weights in `dtype`."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    tensor_parallel = {"tp_size": group.size(), "tp_group": group, "mpu": _Group(group), "tp_grain_size": 1}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runtime = deepspeed.init_inference(model, dtype=model.dtype, tensor_parallel=tensor_parallel)
    _log.info("each layer is split over %d ranks. %s", group.size(), printed.getvalue().strip())
    for parameter in runtime.module.parameters():
        parameter.data = parameter.data.to(dtype)
    # DeepSpeed converts them to the dtype of the weights, also those that transformers keeps in fp32.
    for name, buffer in runtime.module.named_buffers():
        buffer.data = buffers[name].to(buffer.device)
    return cast(PreTrainedModel, runtime.module)
