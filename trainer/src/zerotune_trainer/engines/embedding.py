"""Embeddings of texts: the last hidden states of a causal model, pooled to a vector for each text."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from zerotune_trainer.config.generation import Embedding
from zerotune_trainer.engines.batches import right_padded
from zerotune_trainer.inference.engine import Vector


class HiddenStates:
    """The last hidden states of a forward pass, after the model's last norm.

    They are taken where its body hands them to its head: `output_hidden_states` would keep those of every layer. The
    whole model is called, for ranks that share one keep together by its calls.

    Args:
        model: A causal model of transformers.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._found = model, torch.empty(0)
        # Of one position only: nobody reads the logits.
        accepted = inspect.signature(model.forward).parameters
        self._options = {"use_cache": False} | ({"logits_to_keep": 1} if "logits_to_keep" in accepted else {})
        model.base_model.register_forward_hook(self._keep)

    def of(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Hidden states, [rows, tokens, hidden size], of token ids and attention mask, [rows, tokens] each."""
        self._model(input_ids=ids, attention_mask=mask, **self._options)
        found, self._found = self._found, torch.empty(0)
        return found

    def _keep(self, _: nn.Module, __: Any, output: Any) -> None:
        self._found = output[0]


def vectors_of(
    states: HiddenStates, rows: Sequence[list[int]], embedding: Embedding, pad: int, device: torch.device
) -> list[Vector]:
    """The vector of each text, in one forward pass.

    Args:
        states: The model.
        rows: Token ids of texts.
        embedding: How the hidden states of a text become one vector.
        pad: A token that the model knows.
        device: Where the model is.
    """
    ids, mask, _ = right_padded([(row, []) for row in rows], pad)
    hidden = states.of(ids.to(device), mask.to(device)).float()
    lengths = mask.sum(dim=1, keepdim=True).to(device)
    if embedding.pooling == "mean":
        vectors = (hidden * mask.to(device).unsqueeze(-1)).sum(dim=1) / lengths
    else:
        vectors = hidden[torch.arange(len(rows), device=device), lengths.squeeze(1) - 1]
    if embedding.normalize:
        vectors = nn.functional.normalize(vectors, dim=1)
    return [Vector(values=each, tokens=len(row)) for each, row in zip(vectors.tolist(), rows, strict=True)]
