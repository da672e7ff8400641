"""What the methods have in common that predict the next token: only which tokens of which rows count differs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase, TrainerCallback
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
        """No token may be predicted from those behind it, nor a packed document see another: both are tried out."""
        packed = [ModelCheck(partial(check_packing, collator=collator))] if config.packing == "bfd_split" else []
        return [ModelCheck(check_causality), *packed]

    def evaluation(self, config: TrainConfig) -> Evaluate:  # noqa: ARG002
        """See Method."""
        return _evaluate


def _evaluate(model: nn.Module, batches: Iterable[Batch], device: torch.device) -> dict[str, float]:
    loss = token_loss(model, batches, device)
    return {"eval_loss": loss, "eval_perplexity": perplexity(loss)}
