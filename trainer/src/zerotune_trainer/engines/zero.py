"""Engine `zero`: ZeRO-Inference. All ranks hold one model together, which may lie in host memory.

Each layer is gathered when it is needed and released after, so that a device holds a few layers at a time. What that
costs is the same for any batch: large ones pay. See https://www.deepspeed.ai/2022/09/09/zero-inference.html.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations.deepspeed import HfDeepSpeedConfig

from zerotune_trainer import collectives
from zerotune_trainer import model as models
from zerotune_trainer.adapters import merge, model_folders
from zerotune_trainer.causality import check_causality
from zerotune_trainer.config import InferConfig
from zerotune_trainer.config.generation import Embedding, Generation, Task
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.data.tokenizer import load_tokenizer
from zerotune_trainer.engines.batches import completions
from zerotune_trainer.engines.lockstep import Lockstep, nothing
from zerotune_trainer.engines.offload import AIO, OffloadFolder
from zerotune_trainer.engines.transformers import TransformersEngine
from zerotune_trainer.inference.engine import Completion, ModelReplica, OnToken, Request, Results
from zerotune_trainer.model_checks import empty_model
from zerotune_trainer.sizing.model_config import shape_of_file
from zerotune_trainer.sizing.workload import default_settings
from zerotune_trainer.without_mlflow import deepspeed


class ZeroEngine(TransformersEngine):
    """Generates with a model that is partitioned over all ranks. Each generates for a part of every round."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        generation: Generation,
        batch_size: int,
        task: Task,
        replica: ModelReplica,
        device: torch.device,
        embedding: Embedding | None = None,
    ) -> None:
        super().__init__(model, tokenizer, generation, batch_size, task, embedding)
        self.device = device  # Its parameters are not on any while they are partitioned.
        self.replica = replica
        self.offloaded: OffloadFolder | None = None
        self._lockstep = Lockstep(model, device, self.pad, mode=self.mode)

    @classmethod
    def ranks_per_model_replica(cls, config: InferConfig, world_size: int) -> int:  # noqa: ARG003
        """See Engine."""
        return world_size

    @classmethod
    def load(cls, config: InferConfig, replica: ModelReplica) -> Self:
        """See Engine."""
        folders = model_folders(config)
        accelerator = config.launch.accelerator
        precision = models.resolve_precision(config.precision, accelerator)
        ranks = len(replica.ranks)
        settings = zero_settings(config, shape_of_file(folders.base / "config.json"), precision, ranks)
        offloaded = _offload_folder(config, replica)
        filling: AbstractContextManager[None] = nullcontext()
        if offloaded:
            empty, dtype = empty_model(config.model, folders.base), models.DTYPES[precision]
            on_disk = offloaded.prepare(empty, dtype, ranks, int(os.environ["LOCAL_WORLD_SIZE"]))
            settings["zero_optimization"]["offload_param"] |= on_disk
            filling = offloaded.filling(empty, ranks, config.launch.max_in_cpu)
        # While this is referenced, transformers loads weights partitioned.
        partitioned = HfDeepSpeedConfig(settings)  # type: ignore[no-untyped-call]
        with filling:
            loaded = models.load_model(config.model, folders.base, precision, accelerator)
        if folders.adapter is not None:
            loaded = merge(loaded, folders.adapter)
        runtime, *_ = deepspeed.initialize(model=loaded, config=settings)
        del partitioned
        check_causality(loaded)
        tokenizer = load_tokenizer(config.model, folders.tokenizer)
        device = torch.device(f"cuda:{replica.local_rank}" if accelerator == "cuda" else "cpu")
        asked = (config.generation, config.per_device_batch_size, config.task)
        engine = cls(runtime.module, tokenizer, *asked, replica, device, config.embedding)
        engine.offloaded = offloaded
        return engine

    def run(self, requests: Sequence[Request], on_token: OnToken) -> Iterator[Completion]:
        """See Engine. A round is a batch for every rank, of prompts of like length."""
        for batch in self.batches(requests, len(self.replica.ranks)):
            yield from self._round(batch, on_token)

    def close(self) -> None:
        """See Engine."""
        self._lockstep.close()
        if self.offloaded:
            self.offloaded.close(self.model)
        super().close()

    def _round(self, requests: Sequence[Request], on_token: OnToken) -> Iterator[Completion]:
        began = time.monotonic()
        each = -(-len(requests) // len(self.replica.ranks))
        first = self.replica.ranks.index(self.replica.rank) * each
        mine = requests[first : first + each]
        self._lockstep.begin(on_token)
        results = self.results(mine, nothing) if mine else []
        self._lockstep.follow()
        gathered = collectives.gather(results, list[Results])
        yield from completions(requests, [each for part in gathered for each in part], time.monotonic() - began)


def _offload_folder(config: InferConfig, replica: ModelReplica) -> OffloadFolder | None:
    """The rank's folder for parameters on disk, where they are to be there."""
    if config.offload_param != "nvme":
        return None
    assert config.launch.offload_dir is not None, "the plan names a folder where parameters are offloaded to disk"
    return OffloadFolder(Path(config.launch.offload_dir) / f"rank-{replica.rank}")


def zero_settings(config: InferConfig, shape: ModelShape, precision: str, ranks: int) -> dict[str, Any]:
    """The DeepSpeed settings of ZeRO-Inference: stage 3 without an optimizer."""
    on_cpu = config.launch.accelerator == "cpu"
    on_disk = config.offload_param == "nvme"
    defaults = default_settings(shape, on_cpu=on_cpu)
    return {
        "train_batch_size": ranks,  # DeepSpeed wants a batch size, of which nothing is made.
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": defaults.overlap_comm,
            "stage3_prefetch_bucket_size": defaults.prefetch_bucket_size,
            "stage3_param_persistence_threshold": 10 * shape.hidden_size,
            "stage3_max_live_parameters": defaults.max_live_parameters,
            # What is kept for its next use keeps its buffer, and there are no more than a module needs.
            "stage3_max_reuse_distance": 0 if on_disk else defaults.max_live_parameters,
            "offload_param": {"device": config.offload_param, "pin_memory": not on_cpu},
        },
        "aio": AIO,
    }
