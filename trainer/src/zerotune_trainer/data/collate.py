"""Rows as a batch of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data.formatting import NO_LOSS
from zerotune_trainer.data.prepare import packing_of
from zerotune_trainer.errors import ConfigurationError

Batch = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class PaddingCollator:
    """Rows below each other, padded on the right: `input_ids`, `labels`, `attention_mask`, int64, (rows, length).

    Labels are masked by position: a pad token that is also the EOS token leaves the EOS of a row in the loss.
    """

    pad_token_id: int
    min_length: int = 0
    """Rows are padded to at least this length."""
    multiple: int = 1

    def __call__(self, rows: Rows) -> Batch:
        """Collate."""
        sizes = [len(row["input_ids"]) for row in rows]
        length = _rounded(max(*sizes, self.min_length), self.multiple)
        return {
            "input_ids": _padded([row["input_ids"] for row in rows], length, self.pad_token_id),
            "labels": _padded([row["labels"] for row in rows], length, NO_LOSS),
            "attention_mask": _padded([np.ones(size) for size in sizes], length, 0),
        }


@dataclass(frozen=True)
class FlatteningCollator:
    """Rows of packed documents end to end: `input_ids`, `labels`, `position_ids`, int64, (1, tokens).

    Positions begin at 0 in every document; with them, no attention mask and no cache, transformers keeps documents
    apart: a model that is left to make a cache does not, hence `use_cache` in the batch. The first token of a document
    has no label: it does not follow from the document before it.
    """

    pad_token_id: int
    min_length: int = 0
    """Blocks are padded to at least this length each, all of it behind the last."""
    multiple: int = 1

    def __call__(self, rows: Rows) -> Batch:
        """Collate."""
        ids = np.concatenate([row["input_ids"] for row in rows])
        labels = np.concatenate([row["labels"] for row in rows])
        positions = np.concatenate([np.arange(size) for row in rows for size in row["seq_lengths"]])
        length = _rounded(max(len(ids), len(rows) * self.min_length), self.multiple)
        return {
            "input_ids": _padded([ids], length, self.pad_token_id),
            "labels": _padded([np.where(positions == 0, NO_LOSS, labels)], length, NO_LOSS),
            "position_ids": _padded([positions], length, 0),
            "use_cache": False,
        }


def collator(config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> PaddingCollator | FlatteningCollator:
    """What makes batches of the rows that `prepare` gives for this job.

    Raises:
        ConfigurationError: the tokenizer has neither a pad token nor an EOS token.
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if not isinstance(pad, int):
        raise ConfigurationError(
            "the model's tokenizer has neither a pad token nor an EOS token", "set one in tokenizer_config.json"
        )
    multiple = config.data.pad_to_multiple_of or 1
    min_length = config.data.max_length if config.data.padding == "max_length" else 0
    collate = FlatteningCollator if packing_of(config) == "bfd_split" else PaddingCollator
    return collate(pad, min_length, multiple)


def _padded(arrays: list[Any], length: int, value: int) -> torch.Tensor:
    padded = np.full((len(arrays), length), value, dtype=np.int64)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(padded)


def _rounded(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
