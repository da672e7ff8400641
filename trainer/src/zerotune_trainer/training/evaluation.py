"""Evaluation: the mean loss of a token over all validation rows and ranks, and its perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn

from zerotune_trainer.data.labels import IGNORE_INDEX
from zerotune_trainer.errors import DataError
from zerotune_trainer.training.batches import TOKENS, Batch, to_device

CONTROL_PERPLEXITY = "eval_control_perplexity"
"""Name of the figure of an evaluation that the perplexity of the control texts is."""


def token_loss(model: nn.Module, batches: Iterable[Batch], device: torch.device) -> float:
    """Mean negative log-likelihood of a token, in nats, the same on every rank.

    Args:
        model: A causal language model, possibly wrapped by DeepSpeed, that takes `num_items_in_batch`.
        batches: This rank's batches; every rank has as many, as ZeRO-3 needs.
        device: Where the model computes.

    Raises:
        DataError: no validation row has a token with loss.
    """
    totals = torch.zeros(2, dtype=torch.float64, device=device)
    model.eval()
    with torch.no_grad():
        for batch in batches:
            inputs = to_device({key: value for key, value in batch.items() if key != TOKENS}, device)
            count = inputs["labels"][..., 1:].ne(IGNORE_INDEX).sum()
            # The model divides the sum over its tokens by this number: by 1, it gives the sum.
            loss = model(**inputs, num_items_in_batch=torch.ones((), device=device)).loss
            totals += torch.stack([loss.double(), count.double()])
    dist.all_reduce(totals)
    total, tokens = totals.tolist()
    if tokens == 0:
        raise DataError(
            "no validation row has a token with loss", "see data.loss and the columns that data.columns names"
        )
    return float(total / tokens)


def perplexity(loss: float) -> float:
    """e to the loss; infinite where that has no float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
