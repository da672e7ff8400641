"""The loss of cpt and sft, for which never all logits of a batch are there at once.

A model that is called with labels gives its loss as before, from the same hidden states, and no logits.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from zerotune_trainer import collectives
from zerotune_trainer.causality import TOLERANCES
from zerotune_trainer.data.labels import IGNORE_INDEX
from zerotune_trainer.training.head import extend_head, log_probabilities, trained_head

_CHECKED_TOKENS = 16
_log = logging.getLogger(__name__)


class TiledLoss:
    """The forward pass of a causal language model, whose loss is made a tile of the logits at a time."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self.original = model.forward
        self.active = True
        """Whether it is; otherwise everything is as the model has it."""

    def __call__(
        self, *args: Any, labels: torch.Tensor | None = None, num_items_in_batch: Any = None, **kwargs: Any
    ) -> Any:
        """Run it.

        Args:
            args: What the model takes.
            labels: Tokens, (rows, length); -100 where none counts. Each is predicted from those before it.
            num_items_in_batch: What the sum over tokens is divided by; their number unless given.
            kwargs: What the model takes by name.
        """
        if labels is None or not self.active:
            given = {"labels": labels, "num_items_in_batch": num_items_in_batch}
            return self.original(*args, **kwargs, **{name: value for name, value in given.items() if value is not None})
        targets = labels[:, 1:]
        total = -log_probabilities(self._model, targets, *args, summed=True, **kwargs)
        if num_items_in_batch is None:
            num_items_in_batch = (targets != IGNORE_INDEX).sum()
        return CausalLMOutputWithPast(loss=cast(Any, total / num_items_in_batch))


def add_tiled_loss(model: PreTrainedModel | PeftModel) -> None:
    """Let a model, or the base of one with adapters, make its loss in tiles; one of a form not known here stays."""
    unwrapped: Any = model
    base = unwrapped.get_base_model() if isinstance(model, PeftModel) else unwrapped
    parameters = inspect.signature(base.forward).parameters.values()
    takes_anything = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    if takes_anything and base.base_model is not base and isinstance(trained_head(base), (nn.Linear, LoraLayer)):
        extend_head(base)
        base.forward = TiledLoss(base)
    else:
        _log.warning("a model of type %s makes all logits of a batch at once for its loss", base.config.model_type)


def check_tiled_loss(model: PreTrainedModel | PeftModel) -> None:
    """Leave the loss to the model where it would be another, up to rounding: one with a further term, for example."""
    unwrapped: Any = model
    forward = (unwrapped.get_base_model() if isinstance(model, PeftModel) else unwrapped).forward
    if not isinstance(forward, TiledLoss):
        return
    vocab_size = cast(nn.Embedding, model.get_input_embeddings()).num_embeddings
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(vocab_size, (1, _CHECKED_TOKENS), generator=random).to(model.device)
    tiled, plain = (_loss(model, forward, ids, active=active) for active in (True, False))
    forward.active = True
    # Not one that is not a number: what weights make of a few tokens is for other checks.
    if collectives.any_rank(abs(tiled - plain) > TOLERANCES[model.dtype] * abs(plain)):
        forward.active = False
        _log.warning(
            "a model of type %s adds to its loss, or changes its logits, in a way that is not known here: its loss is "
            "%f, and not %f. It makes all logits of a batch at once: there may be less memory left than planned",
            model.config.model_type,
            plain,
            tiled,
        )


def _loss(model: PreTrainedModel | PeftModel, forward: TiledLoss, ids: torch.Tensor, *, active: bool) -> float:
    """The loss of a row without dropout."""
    forward.active = active
    training = model.training
    model.eval()
    with torch.no_grad():
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss
    model.train(training)
    return float(loss)
