"""Whether a model predicts a token from those before it alone.

transformers loads encoders such as BERT as causal language models, too: without a causal mask they see the token that
they are to predict, and their loss falls to nothing.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from zerotune_trainer.errors import ConfigurationError

TOLERANCES = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""Largest relative difference of logits that is taken for rounding."""
_SHARED, _OTHER = 8, 8
"""Tokens that two sequences have in common, and tokens behind them."""


def check_causality(model: PreTrainedModel) -> None:
    """See that what follows a token changes none of the logits up to it.

    Args:
        model: On its device.

    Raises:
        ConfigurationError: it does.
    """
    random = torch.Generator().manual_seed(0)
    vocab_size = cast(nn.Embedding, model.get_input_embeddings()).num_embeddings
    shared = torch.randint(vocab_size, (1, _SHARED), generator=random)
    other = torch.randint(vocab_size, (2, _OTHER), generator=random)
    ids = torch.cat([shared.expand(2, -1), other], dim=1)
    first, second = logits_of(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})[:, :_SHARED]
    difference = float((first - second).norm() / first.norm())
    # Not one that is not a number: what weights make of a few tokens is for other checks.
    if difference > TOLERANCES[model.dtype]:
        raise ConfigurationError(
            f"a model of type {model.config.model_type} predicts tokens from those that follow: other tokens behind "
            f"them change the logits of the first by {difference:.1e} of their norm",
            "give a causal (decoder-only) language model; an encoder such as BERT is none",
        )


def logits_of(model: PreTrainedModel, batch: dict[str, Any]) -> torch.Tensor:
    """Logits of a batch, fp32, (rows, tokens, vocabulary), without dropout."""
    inputs = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
        if name != "labels"
    }
    training = model.training
    model.eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        logits: torch.Tensor = model(**inputs).logits
    model.train(training)
    return logits.float()
