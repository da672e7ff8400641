"""Batches of requests: their order, their padding, and the completions with their figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from zerotune_trainer.data.labels import IGNORE_INDEX
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.inference.engine import BatchFigures, Completion, Request, Results, Score, Vector

MORE = 8
"""How many times as many short requests a batch may have: the logits of a step take memory for each, however short."""


def by_length(requests: Sequence[Request], size: int, most: int, new_tokens: int) -> Iterator[list[Request]]:
    """Batches of requests of like length, so that little is padding; the longest, which need the most memory, first.

    A batch of shorter ones has more of them, as many as have room where `size` of the longest have: a step of
    a larger batch takes less time for each.

    Args:
        requests: What is to be done.
        size: How many of the longest requests make a batch.
        most: How many requests a batch may have.
        new_tokens: Most tokens that are generated for each.
    """
    ordered = sorted(requests, key=lambda request: (-request.length, request.record))
    room = size * (max((max(each.longest, each.length) for each in ordered), default=0) + new_tokens)
    start = 0
    while start < len(ordered):
        fitting = room // (ordered[start].length + new_tokens)
        stop = start + min(fitting, most)
        yield ordered[start:stop]
        start = stop


def completions(batch: Sequence[Request], results: Sequence[Results], seconds: float) -> Iterator[Completion]:
    """What was generated for the requests of a batch, their scores or embeddings, with its figures on the last.

    Args:
        batch: The requests.
        results: The sequences, scores or embeddings of each.
        seconds: What the batch took.

    Raises:
        ConfigurationError: a score or an embedding is not finite.
    """
    for request, found in zip(batch, results, strict=True):
        _require_finite(request, found)
    figures = BatchFigures(
        records=len(batch),
        prompt_tokens=sum(len(request.ids) for request in batch),
        new_tokens=sum(_tokens(each) for part in results for each in part),
        seconds=seconds,
    )
    for request, found in zip(batch, results, strict=True):
        yield Completion(request.record, found, figures if request is batch[-1] else None)


def _tokens(result: list[int] | Score | Vector) -> int:
    return len(result) if isinstance(result, list) else result.tokens


def _require_finite(request: Request, results: Results) -> None:
    for each in results:
        numbers = each.values if isinstance(each, Vector) else [each.log_likelihood] if isinstance(each, Score) else []
        if not all(map(math.isfinite, numbers)):
            raise ConfigurationError(
                f"record {request.record}: what the model computes of it is not finite",
                "numbers of the model overflow in this precision: set precision: fp32, or bf16 on GPUs",
            )


def left_padded(rows: Sequence[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, [rows, longest] each: a decoder goes on from the right end, so padding is left."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def right_padded(
    rows: Sequence[tuple[list[int], list[int]]], pad: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, attention mask and labels, [rows, longest] each, of prompts with their continuations: labels are the
    tokens of the continuations.
    """
    longest = max(len(prompt) + len(continuation) for prompt, continuation in rows)
    ids = torch.full((len(rows), longest), pad)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORE_INDEX)
    for row, (prompt, continuation) in enumerate(rows):
        size = len(prompt) + len(continuation)
        ids[row, :size] = torch.tensor([*prompt, *continuation])
        mask[row, :size] = 1
        labels[row, len(prompt) : size] = ids[row, len(prompt) : size]
    return ids, mask, labels
