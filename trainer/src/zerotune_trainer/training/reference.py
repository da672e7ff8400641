"""Log-probabilities that a reference gives to rows: computed once, before the first step, and stored by content.

The reference is loaded before the model that is trained, and freed before it, so that no second model is ever there.
What it gives is stored beside the checkpoints and in the cache of rank 0's host: a restart, another number of ranks and
another job with the same inputs compute none anew.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from zerotune_trainer import collectives
from zerotune_trainer.atomic import write_atomically
from zerotune_trainer.data import PreparedData
from zerotune_trainer.data.cache import digest, model_key
from zerotune_trainer.mesh import Axis
from zerotune_trainer.model import resolve_precision
from zerotune_trainer.progress import Reporter
from zerotune_trainer.storage import Folder
from zerotune_trainer.training.batches import Collator, RankRows, Rows, to_device
from zerotune_trainer.training.log_probabilities import add_log_probabilities, completion_log_probabilities
from zerotune_trainer.training.reference_model import ReferenceModel
from zerotune_trainer.without_mlflow import deepspeed

_FOLDER = "reference"

Values = NDArray[np.float32]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferenceStore:
    """Where log-probabilities are found again. Rank 0 reads and writes."""

    checkpoints: Folder
    cache: Path

    def find(self, key: str) -> bytes | None:
        """What is stored under a key."""
        cached = self.cache / _name(key)
        if cached.is_file():
            return cached.read_bytes()
        self.checkpoints.fetch(_name(key))
        stored = self.checkpoints.local / _name(key)
        return stored.read_bytes() if stored.is_file() else None

    def has_only_others(self, key: str) -> bool:
        """Whether the job's checkpoints have those of another reference or of other rows, and none under a key."""
        stored = self.checkpoints.children(_FOLDER)
        return bool(stored) and Path(_name(key)).name not in stored

    def keep(self, key: str, content: bytes) -> None:
        """Store something under a key, in both places."""
        self.checkpoints.write(_name(key), content)
        write_atomically(self.cache / _name(key), content)


def _name(key: str) -> str:
    return f"{_FOLDER}/{key}.npy"


@dataclass(frozen=True)
class Reference:
    """How the log-probabilities of rows are found or computed. Every rank does the same."""

    model: ReferenceModel
    arguments: TrainingArguments
    ranks: Axis
    report: Reporter
    store: ReferenceStore
    tokenizer: PreTrainedTokenizerBase

    def values(self, rows: PreparedData, collate: Collator) -> list[Values]:
        """For each split (rows, 2): the log-probabilities of both completions of a row, in nats.

        Args:
            rows: The rows; what stands for them stands for tokenizer, chat template and length too.
            collate: Makes batches of the rows.

        Raises:
            ZerotuneError: as `model.load_initial`.
        """
        name = collectives.on_first_rank(lambda: self._key(rows), str)
        sizes = [len(split) for split in rows.splits.values()]
        self._warn_on_change(name)
        found = self._stored(name, sum(sizes))
        if found is None:
            _log.info("computing the reference log-probabilities of %d rows", sum(sizes))
            found = self._computed(self.model.load(self.tokenizer), rows.splits.values(), collate)
            collectives.on_first_rank(lambda: self.store.keep(name, _encoded(found)), type(None))
        return list(np.split(found, np.cumsum(sizes)[:-1]))

    def _warn_on_change(self, key: str) -> None:
        """Say that a job goes on with another reference than it began with. Rank 0 does."""
        resumes = self.model.config.checkpoint.resume != "never"
        if self.ranks.rank == 0 and resumes and self.store.has_only_others(key):
            self.report.warning(
                f"{self.store.checkpoints.uri} has log-probabilities of another reference, or of other rows: the "
                "weights of the reference, or the data, have changed since the job began; training goes on with them "
                "as they are now; `resume: never` begins at the beginning"
            )

    def _key(self, rows: PreparedData) -> str:
        config = self.model.config
        cache = Path(config.launch.cache_dir)
        precision = resolve_precision(config.training.precision, config.launch.accelerator)
        quantization = config.adapter.base_quantization if config.adapter else None
        models = (model_key(folder, cache) for folder in self._model_folders)
        return digest(*models, rows.digest, precision, *([quantization] if quantization else []))

    @property
    def _model_folders(self) -> list[Path]:
        """Where the weights of the reference are."""
        folders = self.model.folders
        return [folders.base, *([folders.adapter] if folders.adapter else [])]

    def _stored(self, key: str, rows: int) -> Values | None:
        """What is stored, which rank 0 has, on every rank."""
        content = self.store.find(key) if self.ranks.rank == 0 else None
        if not collectives.any_rank(content is not None):
            return None
        values = torch.empty((rows, 2))
        if content is not None:
            values = torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))
        values = values.to(self.arguments.device)
        dist.broadcast(values, src=0)
        _log.info("the reference log-probabilities of %d rows are found", rows)
        return values.cpu().numpy()

    def _computed(self, model: PreTrainedModel | PeftModel, splits: Iterable[Rows], collate: Collator) -> Values:
        add_log_probabilities(model)
        with torch.no_grad(), _ready(model, self.arguments) as ready:
            return np.concatenate([self._of_rows(ready, rows, collate) for rows in splits])

    def _of_rows(self, model: nn.Module, rows: Rows, collate: Collator) -> Values:
        share = RankRows(rows, self.ranks.rank, self.ranks.size)
        values = torch.zeros((len(share) * self.ranks.size, 2), device=self.arguments.device)
        at = self.ranks.rank
        # Values that are found draw nothing: those that are computed draw nothing of what dropout draws from, either.
        size, own = self.arguments.eval_batch_size, torch.Generator()
        for batch in DataLoader(share, batch_size=size, collate_fn=collate, generator=own):
            pair = completion_log_probabilities(model, to_device(batch, self.arguments.device)).chunk(2)
            found = torch.stack(pair, dim=1)
            values[at : at + len(found) * self.ranks.size : self.ranks.size] = found
            at += len(found) * self.ranks.size
            self.report.step(0)
        dist.all_reduce(values)
        return values[: len(rows)].cpu().numpy()


@contextmanager
def _ready(model: PreTrainedModel | PeftModel, arguments: TrainingArguments) -> Iterator[nn.Module]:
    """The model where it computes; its parameters gathered by DeepSpeed, layer by layer, where they are partitioned."""
    model.eval()
    if not any(hasattr(parameter, "ds_tensor") for parameter in model.parameters()):
        yield cast(nn.Module, model).to(arguments.device)
        return
    engine, *_ = deepspeed.initialize(model=model, config=_inference_settings(arguments))
    yield engine
    engine.destroy()


def _inference_settings(arguments: TrainingArguments) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": arguments.eval_batch_size,
        "zero_optimization": {"stage": 3},
        "bf16": {"enabled": arguments.bf16},
        "fp16": {"enabled": arguments.fp16},
    }


def _encoded(values: Values) -> bytes:
    content = io.BytesIO()
    np.save(content, values, allow_pickle=False)
    return content.getvalue()
