"""What the methods have in common that predict the next token: only which tokens of which rows count differs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from peft import PeftModel
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.utils.generic import is_flash_attention_requested

from zerotune_trainer import data
from zerotune_trainer.causality import check_causality
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data import PreparedData
from zerotune_trainer.methods.base import Evaluate, Method
from zerotune_trainer.training.batches import Batch, Collator
from zerotune_trainer.training.callbacks.model_check import ModelCheck
from zerotune_trainer.training.evaluation import perplexity, token_loss
from zerotune_trainer.training.packing_check import check_packing
from zerotune_trainer.training.tiled_loss import add_tiled_loss, check_tiled_loss


class NextToken(Method):
    """Rows of `input_ids` and `labels`, the model's own loss, and the loss and perplexity of a token."""

    def prepare(self, config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> PreparedData:
        """See Method."""
        return data.prepare(config, tokenizer)

    def collator(self, config: TrainConfig, tokenizer: PreTrainedTokenizerBase, model: PretrainedConfig) -> Collator:
        """See Method."""
        flash_attention = is_flash_attention_requested(model)
        embeddings = getattr(model.get_text_config(), "vocab_size", None)
        return data.collator(config, tokenizer, flash_attention=flash_attention, embeddings=embeddings)

    def callbacks(self, config: TrainConfig, collator: Collator) -> list[TrainerCallback]:
        """No token may be predicted from those behind it, nor a packed document see another, nor the loss be another
        than the model's: all are tried out."""
        packed = [ModelCheck(partial(check_packing, collator=collator))] if config.packing == "bfd_split" else []
        return [ModelCheck(check_causality), *packed, ModelCheck(check_tiled_loss)]

    def extend(self, model: PreTrainedModel | PeftModel) -> None:
        """The model gives its loss without making all logits at once."""
        add_tiled_loss(model)

    def evaluation(self, config: TrainConfig) -> Evaluate:  # noqa: ARG002
        """See Method."""
        return _evaluate


def _evaluate(model: nn.Module, batches: Iterable[Batch], device: torch.device) -> dict[str, float]:
    loss = token_loss(model, batches, device)
    return {"eval_loss": loss, "eval_perplexity": perplexity(loss)}
