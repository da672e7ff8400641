"""The head of a causal language model, for which never all logits of a batch are there at once.

    in fp32             torch's `linear_cross_entropy`, a few rows at a time. Of a sum it makes the gradients along
                        with the loss: nothing is made twice. In bf16 it rounds the loss, and on CPU copies the head
    in bf16 and fp16    TRL's kernel, tile by tile; each tile is made again in the backward pass. So it is where
                        logits are scaled or bounded
    a head with LoRA    its own forward pass on a few rows at a time, made again in the backward pass; also one whose
                        weights DeepSpeed has split

All are called where the head is, as the forward pass of that module: so DeepSpeed gathers the head's weights for it
under ZeRO-3, and keeps them until their gradient is there. TRL's own way to call its kernel, `add_fused_lm_head`, gives
them back before.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from deepspeed.utils import set_z3_leaf_module
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn
from torch.nn.functional import linear_cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PretrainedConfig, PreTrainedModel

from zerotune_trainer import compat
from zerotune_trainer.data.labels import IGNORE_INDEX

_VOCABULARY_TILE = 4096
_OPTIONS = nn.LinearCrossEntropyOptions(chunking_method=None, batch_chunk_size=128)
_RECOMPUTED_ROWS = 64


def extend_head(model: PreTrainedModel, *, by_rows: bool = False) -> None:
    """Let the head of a model give log-probabilities where it is called with `targets`.

    Args:
        model: The model.
        by_rows: Whether the head is to make logits by its own forward pass, as one does whose weights are split.
    """
    head: Any = trained_head(model)
    extended = _forward
    if by_rows or isinstance(head, LoraLayer):
        extended = _forward_by_rows
        # Ranks have different numbers of rows: ZeRO-3 gathers what is inside once, not for each call of it.
        set_z3_leaf_module(head, True)
    head.forward = functools.partial(extended, head, head.forward, model.config.get_text_config())


def trained_head(model: PreTrainedModel) -> nn.Module | None:
    """The module whose forward pass makes the logits: with `modulesToSave` the copy that is trained."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    found: nn.Module | None = (
        head.modules_to_save[head.active_adapters[0]] if isinstance(head, ModulesToSaveWrapper) else head
    )
    return found


def log_probabilities(
    model: PreTrainedModel, targets: torch.Tensor, *args: Any, summed: bool = False, **inputs: Any
) -> torch.Tensor:
    """Log-probabilities of tokens in nats, fp32, (sequences, length - 1), 0 where there is none; or the sum of all.

    Args:
        model: One whose head `extend_head` has extended.
        targets: Tokens that follow, (sequences, length - 1); -100 where none counts.
        args: What the model's backbone takes.
        summed: Whether the sum of all is wanted, ().
        inputs: Likewise, by name.
    """
    inputs["use_cache"] = False
    hidden = model.base_model(*args, **inputs).last_hidden_state[:, :-1]
    counted = targets != IGNORE_INDEX
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    found: torch.Tensor = head(hidden[counted], targets=targets[counted], summed=summed)
    # The scatter keeps the connection to the model where no token counts, as the sum does.
    return found.sum() if summed else found.new_zeros(targets.shape).masked_scatter(counted, found)


def _forward(
    head: Any,
    original: Any,
    config: PretrainedConfig,
    hidden: torch.Tensor,
    targets: torch.Tensor | None = None,
    *,
    summed: bool = False,
) -> torch.Tensor:
    """Logits of hidden states; or the log-probabilities of `targets`, fp32, (rows,) or (), where they are (rows, h)."""
    if targets is None:
        logits: torch.Tensor = original(hidden)
        return logits
    softcap, scale = _softcap(config), _logit_scale(config)
    if hidden.dtype == torch.float32 and softcap is None and scale == 1:
        reduction = "sum" if summed else "none"
        return -linear_cross_entropy(
            hidden, head.weight, targets, linear_bias=head.bias, reduction=reduction, options=_OPTIONS
        )
    # Here, since jobs in fp32 need nothing of TRL.
    from trl.kernels import ChunkedLogProbFunction

    compat.use_small_logit_tiles()
    options = (1.0, _VOCABULARY_TILE, softcap, scale, ())
    found: torch.Tensor = ChunkedLogProbFunction.apply(hidden, head.weight, head.bias, targets, *options)[0]
    return found


def _forward_by_rows(
    head: Any,  # noqa: ARG001
    original: Any,
    config: PretrainedConfig,
    hidden: torch.Tensor,
    targets: torch.Tensor | None = None,
    *,
    summed: bool = False,  # noqa: ARG001
) -> torch.Tensor:
    """As `_forward`, for a head whose weights are not all that it computes with."""
    if targets is None:
        logits: torch.Tensor = original(hidden)
        return logits
    rows = zip(torch.split(hidden, _RECOMPUTED_ROWS), torch.split(targets, _RECOMPUTED_ROWS), strict=True)
    return torch.cat([checkpoint(_of_rows, original, config, *each, use_reentrant=False) for each in rows])


def _of_rows(original: Any, config: PretrainedConfig, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    softcap = _softcap(config)
    # One that DeepSpeed has split takes sequences alone.
    logits = original(hidden[None])[0].float() * _logit_scale(config)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    found: torch.Tensor = logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(dim=1)
    return found


def _softcap(config: PretrainedConfig) -> float | None:
    """What a model bounds its logits by, with a tanh."""
    value = getattr(config, "final_logit_softcapping", None)
    return None if value is None else float(value)


def _logit_scale(config: PretrainedConfig) -> float:
    """What a model multiplies its logits by, by its name in the families that do so."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    scaling = getattr(config, "logits_scaling", None)
    if scaling is None:
        return 1.0
    return float(scaling if config.model_type == "hyperclovax" else 1 / scaling)
