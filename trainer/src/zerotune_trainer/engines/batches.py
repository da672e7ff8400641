"""Batches of requests: their order, their padding, and the completions with their figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from zerotune_trainer.data.labels import IGNORE_INDEX
from zerotune_trainer.inference.engine import BatchFigures, Completion, Request, Results, Score


def longest_first(requests: Sequence[Request]) -> list[Request]:
    """Requests by falling length."""
    return sorted(requests, key=lambda request: (-request.length, request.record))


def completions(batch: Sequence[Request], results: Sequence[Results], seconds: float) -> Iterator[Completion]:
    """What was generated for the requests of a batch, or their scores, with its figures on the last.

    Args:
        batch: The requests.
        results: The sequences or scores of each.
        seconds: What the batch took.
    """
    figures = BatchFigures(
        records=len(batch),
        prompt_tokens=sum(len(request.ids) for request in batch),
        new_tokens=sum(each.tokens if isinstance(each, Score) else len(each) for part in results for each in part),
        seconds=seconds,
    )
    for request, found in zip(batch, results, strict=True):
        yield Completion(request.record, found, figures if request is batch[-1] else None)


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
