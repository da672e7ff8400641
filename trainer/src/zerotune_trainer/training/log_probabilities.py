"""Log-probabilities of the tokens of a batch, which a model gives without making all of their logits at once."""

from __future__ import annotations

import functools
from types import MethodType
from typing import Any, cast

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from zerotune_trainer.causality import TOLERANCES, logits_of
from zerotune_trainer.data.labels import IGNORE_INDEX
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.training.batches import Batch
from zerotune_trainer.training.head import extend_head, log_probabilities

_CHECKED_TOKENS = 16


def add_log_probabilities(model: PreTrainedModel | PeftModel, *, by_rows: bool = False) -> None:
    """Let a model, or the base of one with adapters, give log-probabilities where it is asked to by `targets`.

    Args:
        model: The model.
        by_rows: As for `extend_head`.
    """
    unwrapped: Any = model
    base = unwrapped.get_base_model() if hasattr(model, "get_base_model") else unwrapped
    extend_head(base, by_rows=by_rows)
    base.forward = MethodType(functools.partial(_forward, base.forward), base)


def token_log_probabilities(model: nn.Module, batch: Batch, labels: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the labels in nats, fp32, (sequences, length - 1); 0 where there is none (-100).

    Args:
        model: One that `add_log_probabilities` has extended, possibly wrapped by DeepSpeed.
        batch: `input_ids` and `attention_mask`.
        labels: What counts, of the shape of the ids.
    """
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    found: torch.Tensor = model(**inputs, targets=labels[:, 1:])
    return found


def completion_log_probabilities(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Log-probabilities of the completions of a batch in nats, fp32, (sequences,)."""
    return token_log_probabilities(model, batch, batch["labels"]).sum(dim=1)


def completion_lengths(batch: Batch) -> torch.Tensor:
    """Tokens of the completions of a batch, at least 1, (sequences,)."""
    counted: torch.Tensor = (batch["labels"][:, 1:] != IGNORE_INDEX).sum(dim=1)
    return counted.clamp(min=1)


def check_log_probabilities(model: PreTrainedModel) -> None:
    """See that the log-probabilities are those of the model's logits, up to rounding.

    Raises:
        ConfigurationError: they are not: the model does something with its logits that is not known here.
    """
    vocab_size = cast(nn.Embedding, model.get_input_embeddings()).num_embeddings
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(vocab_size, (1, _CHECKED_TOKENS), generator=random).to(model.device)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    expected = logits_of(model, batch)[:, :-1].log_softmax(dim=-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    training = model.training
    model.eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        found = token_log_probabilities(model, batch, ids)
    model.train(training)
    difference = float((found - expected).norm() / expected.norm())
    if not difference <= TOLERANCES[model.dtype]:
        raise ConfigurationError(
            f"a model of type {model.config.model_type} changes its logits in a way that is not known here: "
            f"log-probabilities differ by {difference:.1e} of their norm",
            "use another model, or method sft",
        )


def _forward(
    original: Any, model: PreTrainedModel, *args: Any, targets: torch.Tensor | None = None, **kwargs: Any
) -> Any:
    """The forward pass of a causal language model that gives the log-probabilities of `targets`, where there are some.

    Args:
        targets: Tokens that follow, (sequences, length - 1); -100 where none counts.
    """
    if targets is None:
        return original(*args, **kwargs)
    return log_probabilities(model, targets, *args, **kwargs)
