"""Log-likelihoods of given continuations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from zerotune_trainer.engines.batches import right_padded
from zerotune_trainer.inference.engine import Score
from zerotune_trainer.training.log_probabilities import token_log_probabilities


def scores_of(model: Any, rows: Sequence[tuple[list[int], list[int]]], pad: int, device: torch.device) -> list[Score]:
    """The score of each continuation, given the prompt before it, in one forward pass.

    Args:
        model: A model with `add_log_probabilities`.
        rows: Token ids of prompts, and of what continues them.
        pad: A token that the model knows.
        device: Where the model is.
    """
    ids, mask, labels = (each.to(device) for each in right_padded(rows, pad))
    batch = {"input_ids": ids, "attention_mask": mask}
    found = token_log_probabilities(model, batch, labels).sum(dim=1).tolist()
    return [
        Score(log_likelihood=each, tokens=len(continuation))
        for each, (_, continuation) in zip(found, rows, strict=True)
    ]
