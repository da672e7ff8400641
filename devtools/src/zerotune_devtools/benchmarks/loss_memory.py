"""The most memory that a loss takes at once on CPU, with its gradients, as torch's allocator counts it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from zerotune_trainer.training.head import extend_head


class Head(NamedTuple):
    """A head, and what it gets: tokens as hidden states, and the tokens that follow."""

    model: LlamaForCausalLM
    hidden: torch.Tensor
    targets: torch.Tensor


def make_head(tokens: int, hidden_size: int, vocab_size: int, dtype: torch.dtype = torch.float32) -> Head:
    """A head as models have it, with drawn weights; the model around it is as small as can be."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=8,
        num_hidden_layers=0,
        num_attention_heads=1,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config)
    model.to(dtype)
    extend_head(model)
    hidden = torch.randn(tokens, hidden_size, dtype=dtype, requires_grad=True)
    return Head(model, hidden, torch.randint(vocab_size, (tokens,)))


def plain(head: Head) -> torch.Tensor:
    """The loss from all logits, as transformers makes it."""
    return cross_entropy(head.model.lm_head(head.hidden).float(), head.targets, reduction="sum")


def tiled(head: Head) -> torch.Tensor:
    """The loss of cpt and sft."""
    module: Any = head.model.lm_head
    total: torch.Tensor = module(head.hidden, targets=head.targets, summed=True).sum()
    return -total


def log_probabilities(head: Head) -> torch.Tensor:
    """What the losses of preferences are made of."""
    module: Any = head.model.lm_head
    total: torch.Tensor = module(head.hidden, targets=head.targets).sum()
    return -total


def peak_bytes(loss: Callable[[Head], torch.Tensor], head: Head) -> int:
    """The most bytes that a forward and a backward pass hold beyond what there was, the gradients among them."""
    for parameter in (*head.model.parameters(), head.hidden):
        parameter.grad = None
    return peak_of(lambda: loss(head))


def peak_of(loss: Callable[[], torch.Tensor]) -> int:
    """The most bytes that making a loss and its gradients holds beyond what there was."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        torch.autograd.backward(loss())
    recorded: Any = profiled.profiler.kineto_results
    changes = sorted((event.start_ns(), event.nbytes()) for event in recorded.events() if event.name() == "[memory]")
    peak: int = max(accumulate(change for _, change in changes))
    return peak
