"""What the methods have in common that predict the next token: only which tokens of which rows count differs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase, TrainerCallback
from transformers.utils.generic import is_flash_attention_requested

from zerotune_trainer import data
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data import PreparedData
from zerotune_trainer.methods.base import Method
from zerotune_trainer.training.batches import Batch, Collator
from zerotune_trainer.training.evaluation import perplexity, token_loss
from zerotune_trainer.training.packing_check import PackingCheck


class NextToken(Method):
    """Rows of `input_ids` and `labels`, the model's own loss, and the loss and perplexity of a token."""

    def prepare(self, config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> PreparedData:
        """See Method."""
        return data.prepare(config, tokenizer)

    def collator(self, config: TrainConfig, tokenizer: PreTrainedTokenizerBase, model: PretrainedConfig) -> Collator:
        """See Method."""
        return data.collator(config, tokenizer, flash_attention=is_flash_attention_requested(model))

    def callbacks(self, config: TrainConfig, collator: Collator) -> list[TrainerCallback]:
        """Packed documents must not see each other: that is checked on two of them."""
        return [PackingCheck(collator)] if data.packing_of(config) == "bfd_split" else []

    def evaluate(self, model: nn.Module, batches: Iterable[Batch], device: torch.device) -> dict[str, float]:
        """See Method."""
        loss = token_loss(model, batches, device)
        return {"eval_loss": loss, "eval_perplexity": perplexity(loss)}
