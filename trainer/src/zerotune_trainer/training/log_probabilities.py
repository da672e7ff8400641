"""Log-probabilities of the tokens of a batch, which a model gives without making all of their logits at once."""

from __future__ import annotations

import functools
from types import MethodType
from typing import Any, cast

import torch
from peft import PeftModel
from torch import nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from zerotune_trainer.causality import TOLERANCES, logits_of
from zerotune_trainer.data.labels import IGNORE_INDEX
from zerotune_trainer.data.padding_free import LENGTHS, Lengths, SharedRows, share_rows
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.training.batches import Batch, to_device
from zerotune_trainer.training.head import extend_head, log_probabilities

_CHECKED_TOKENS = 16
_CHECKED_SIZES = (20, 11, 9)
"""Tokens of sequences of which the last two share a row, or all."""


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
        batch: `input_ids`, `attention_mask` and, where sequences are to share rows, their `lengths`.
        labels: What counts, of the shape of the ids.
    """
    if LENGTHS in batch:
        return _padding_free(model, batch, labels)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    found: torch.Tensor = model(**inputs, targets=labels[:, 1:])
    return found


def _padding_free(model: nn.Module, batch: Batch, labels: torch.Tensor) -> torch.Tensor:
    """As `token_log_probabilities`, by a forward pass in which sequences share rows, kept apart by their positions.

    The tokens go to where `share_rows` says, each with the label that follows it in its sequence, and what is found
    there comes back: outside of this function a batch has a sequence in each row.
    """
    lengths: Lengths = batch[LENGTHS]
    rows = share_rows(lengths)
    is_token = batch["attention_mask"].bool()
    places = torch.from_numpy(rows.places).to(labels.device)

    def moved(values: torch.Tensor, filler: int) -> torch.Tensor:
        return values.new_full(rows.shape, filler).flatten().scatter(0, places, values[is_token]).view(rows.shape)

    following = labels.roll(-1, dims=1)
    following[:, -1] = IGNORE_INDEX
    positions = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
    found: torch.Tensor = model(
        input_ids=moved(batch["input_ids"], 0),
        position_ids=moved(positions, 0),  # Every token of padding is a sequence of its own.
        targets=moved(following, IGNORE_INDEX)[:, :-1],
        **(_boundaries(lengths, rows, labels.device) if lengths.flattens else {}),
    )
    flat = pad(found, (0, 1)).flatten()[places]
    return flat.new_zeros(labels.shape).masked_scatter(is_token, flat)[:, :-1]


def _boundaries(lengths: Lengths, rows: SharedRows, device: torch.device) -> dict[str, Any]:
    """Where sequences begin in one row: what the varlen kernels of flash attention take."""
    sizes = torch.tensor([lengths.sizes[sequence] for sequence in rows.order])
    begins = pad(sizes.cumsum(0), (1, 0)).to(device, torch.int32)
    longest = max(lengths.sizes)
    return {"cu_seq_lens_q": begins, "cu_seq_lens_k": begins, "max_length_q": longest, "max_length_k": longest}


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


def check_padding_free(model: PreTrainedModel, *, flash_attention: bool) -> None:
    """See that a sequence has the log-probabilities behind another one that it has alone, up to rounding.

    Args:
        model: On its device.
        flash_attention: Whether one of those kernels computes attention.

    Raises:
        ConfigurationError: it has others.
    """
    vocab_size = cast(nn.Embedding, model.get_input_embeddings()).num_embeddings
    random = torch.Generator().manual_seed(0)
    shape = (len(_CHECKED_SIZES), max(_CHECKED_SIZES))
    is_token = torch.arange(shape[1]) < torch.tensor(_CHECKED_SIZES)[:, None]
    ids = torch.where(is_token, torch.randint(vocab_size, shape, generator=random), 0)
    batch = {"input_ids": ids, "attention_mask": is_token.long(), "labels": ids.where(is_token, IGNORE_INDEX)}
    batch = to_device(batch, model.device)
    training = model.training
    model.eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        alone, sharing = (
            token_log_probabilities(model, batch | lengths, batch["labels"])[is_token[:, 1:]]
            for lengths in ({}, {LENGTHS: Lengths(_CHECKED_SIZES, flash_attention)})
        )
    model.train(training)
    # Without what all of them have in common: the logarithm of the vocabulary's size would hide a difference.
    difference = float((sharing - alone).norm() / (alone - alone.mean()).norm())
    if not difference <= TOLERANCES[model.dtype]:
        raise ConfigurationError(
            f"data.paddingFree mixes sequences in a model of type {model.config.model_type}, which ignores "
            f"position_ids: log-probabilities of sequences that share a row differ by {difference:.1e} of their "
            "spread from those that they have alone",
            "leave data.paddingFree out",
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
