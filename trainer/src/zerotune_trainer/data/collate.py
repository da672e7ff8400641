"""Rows as a batch of tensors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase
from transformers.data.data_collator import DataCollatorWithFlattening

from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data.labels import IGNORE_INDEX
from zerotune_trainer.errors import ConfigurationError

_log = logging.getLogger(__name__)

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
            "labels": _padded([row["labels"] for row in rows], length, IGNORE_INDEX),
            "attention_mask": _padded([np.ones(size) for size in sizes], length, 0),
        }


@dataclass(frozen=True)
class PackingCollator:
    """Blocks of packed documents below each other: `input_ids`, `labels`, `position_ids`, int64, (blocks, length).

    Positions begin at 0 in every document. From them, without an attention mask and without a cache, transformers makes
    a mask that keeps the documents of a block apart (`masking_utils.find_packed_sequence_indices`, for sdpa and eager
    attention); a model that is left to make a cache does not, hence `use_cache` in the batch. The first token of a
    document has no label: it does not follow from the document before it.
    """

    pad_token_id: int
    min_length: int = 0
    """Blocks are padded to at least this length."""
    multiple: int = 1

    def __call__(self, rows: Rows) -> Batch:
        """Collate."""
        length = _rounded(max(self.min_length, *(len(row["input_ids"]) for row in rows)), self.multiple)
        positions = [np.concatenate([np.arange(size) for size in row["seq_lengths"]]) for row in rows]
        labels = [np.where(of == 0, IGNORE_INDEX, row["labels"]) for of, row in zip(positions, rows, strict=True)]
        return {
            "input_ids": _padded([row["input_ids"] for row in rows], length, self.pad_token_id),
            "labels": _padded(labels, length, IGNORE_INDEX),
            # Every token of padding is a document of its own.
            "position_ids": _padded(positions, length, 0),
            "use_cache": False,
        }


@dataclass(frozen=True)
class FlatteningCollator:
    """Packed documents end to end, for the varlen kernels of flash attention: (1, tokens), as transformers makes it.

    Beside `input_ids`, `labels` and `position_ids` there is where documents begin and the length of the longest:
    `cu_seq_lens_q`, `cu_seq_lens_k`, int32, (documents + 1,), `max_length_q` and `max_length_k`. Without them every
    layer would work them out again from the positions, waiting for the device. Padding is a document.
    """

    pad_token_id: int
    min_length: int = 0
    """Blocks are padded to at least this length each, all of it behind the last."""
    multiple: int = 1

    def __call__(self, rows: Rows) -> Batch:
        """Collate."""
        documents = [document for row in rows for document in _documents(row)]
        tokens = sum(len(row["input_ids"]) for row in rows)
        padding = _rounded(max(tokens, len(rows) * self.min_length), self.multiple) - tokens
        if padding:
            filler = {"input_ids": [self.pad_token_id] * padding, "labels": [IGNORE_INDEX] * padding}
            documents.append(filler)
        flatten: Any = DataCollatorWithFlattening(  # type: ignore[no-untyped-call]
            return_flash_attn_kwargs=True, separator_id=IGNORE_INDEX
        )
        return {**flatten(documents), "use_cache": False}


def _documents(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    ends = np.cumsum(row["seq_lengths"])
    for end, size in zip(ends, row["seq_lengths"], strict=True):
        yield {name: row[name][end - size : end] for name in ("input_ids", "labels")}


def collator(
    config: TrainConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    flash_attention: bool = False,
    embeddings: int | None = None,
) -> PaddingCollator | PackingCollator | FlatteningCollator:
    """What makes batches of the rows that `prepare` gives for this job.

    Args:
        config: The job.
        tokenizer: The model's.
        flash_attention: Whether the model computes attention with one of the flash attention kernels.
        embeddings: Tokens that the model has an embedding for; None: for all of the tokenizer's.

    Raises:
        ConfigurationError: the tokenizer has neither a pad token nor an EOS token.
    """
    padding = padding_collator(config, tokenizer, embeddings)
    if config.packing != "bfd_split":
        return padding
    # With other attention than flash, end to end costs the square of all tokens of the batch.
    packed = FlatteningCollator if flash_attention else PackingCollator
    return packed(padding.pad_token_id, padding.min_length, padding.multiple)


def padding_collator(
    config: TrainConfig, tokenizer: PreTrainedTokenizerBase, embeddings: int | None = None
) -> PaddingCollator:
    """What makes batches of rows that are not packed; arguments and errors as those of `collator`."""
    min_length = config.data.max_length if config.data.padding == "max_length" else 0
    return PaddingCollator(_padding_token(tokenizer, embeddings), min_length, config.data.pad_to_multiple_of or 1)


def _padding_token(tokenizer: PreTrainedTokenizerBase, embeddings: int | None) -> int:
    """A token that the model has an embedding for: padding is masked and has no label, any will do."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if not isinstance(pad, int):
        raise ConfigurationError(
            "the model's tokenizer has neither a pad token nor an EOS token", "set one in tokenizer_config.json"
        )
    if embeddings is None or pad < embeddings:
        return pad
    _log.warning("rows are padded with token 0: the pad token %d is beyond the model's %d embeddings", pad, embeddings)
    return 0


def padded_length(config: TrainConfig, longest: int) -> int:
    """Tokens of the longest sequence that a model sees, where this is the longest row, or the longest document of one.

    Documents that share a row have positions of their own, and every token of the padding behind them is at 0.
    """
    if config.packing == "bfd_split":
        return longest
    min_length = config.data.max_length if config.data.padding == "max_length" else 0
    return _rounded(max(longest, min_length), config.data.pad_to_multiple_of or 1)


def _padded(arrays: list[Any], length: int, value: int) -> torch.Tensor:
    padded = np.full((len(arrays), length), value, dtype=np.int64)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(padded)


def _rounded(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
