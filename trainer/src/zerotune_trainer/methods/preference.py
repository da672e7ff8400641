"""What dpo, orpo and kto have in common: rows of two sequences, and their log-probabilities."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any, cast

import torch
from peft import PeftModel
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.utils.generic import is_flash_attention_requested

from zerotune_trainer import data
from zerotune_trainer.causality import check_causality
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.training import Preference
from zerotune_trainer.data import PreparedData
from zerotune_trainer.methods.base import Evaluate, Method
from zerotune_trainer.training.batches import Batch, Collator, Rows
from zerotune_trainer.training.callbacks.model_check import ModelCheck
from zerotune_trainer.training.log_probabilities import (
    add_log_probabilities,
    check_log_probabilities,
    check_padding_free,
    completion_log_probabilities,
)
from zerotune_trainer.training.objective import Figures, Objective, evaluate
from zerotune_trainer.training.reference import Reference


class PreferenceMethod(Method):
    """Rows with `seq_lengths`, and an objective that is a function of the completions' log-probabilities."""

    has_reference = True
    """Whether the objective compares them with those that a reference gives."""

    def prepare(self, config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> PreparedData:
        """See Method."""
        return data.prepare(config, tokenizer)

    def collator(self, config: TrainConfig, tokenizer: PreTrainedTokenizerBase, model: PretrainedConfig) -> Collator:
        """See Method."""
        embeddings = getattr(model.get_text_config(), "vocab_size", None)
        padding = data.padding_collator(config, tokenizer, embeddings)
        return data.PreferenceCollator(padding, config.data.padding_free, is_flash_attention_requested(model))

    def completed(self, rows: PreparedData, reference: Reference, collator: Collator) -> tuple[Rows, Rows | None]:
        """See Method."""
        if not self.has_reference:
            return rows.train, rows.validation
        values = reference.values(rows, collator)
        train, *validation = (
            data.RowsWithReference(split, values) for split, values in zip(rows.splits.values(), values, strict=True)
        )
        return train, validation[0] if validation else None

    def callbacks(self, config: TrainConfig, collator: Collator) -> list[TrainerCallback]:
        """No token may be predicted from those behind it, nor a sequence see another, nor a log-probability be another
        than the model's."""
        sharing: list[TrainerCallback] = []
        if config.data.padding_free:
            flash_attention = cast(data.PreferenceCollator, collator).flash_attention
            sharing.append(ModelCheck(partial(check_padding_free, flash_attention=flash_attention)))
        return [ModelCheck(check_causality), *sharing, ModelCheck(check_log_probabilities)]

    def extend(self, model: PreTrainedModel | PeftModel) -> None:
        """The model gives log-probabilities without making all logits at once."""
        add_log_probabilities(model)

    @abstractmethod
    def of(self, preference: Preference) -> Objective:
        """What the method minimizes, with these options."""

    def objective(self, config: TrainConfig) -> Objective:
        """See Method."""
        return self.of(config.preference or Preference())

    def evaluation(self, config: TrainConfig) -> Evaluate:
        """See Method."""
        return partial(evaluate, self.objective(config))


class PairObjective(Objective):
    """A loss that is a mean over pairs, from the log-probabilities of both completions and those of a reference."""

    def __init__(self, preference: Preference) -> None:
        self.preference = preference
        self.beta = float(preference.beta)

    def units(self, batch: Batch) -> torch.Tensor:
        """Pairs."""
        return cast(torch.Tensor, batch["weights"]).sum()[None]


def first_and_second(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the completions of first and of second sequences, each (rows,), fp32."""
    first, second = completion_log_probabilities(model, batch).chunk(2)
    return first, second


def reward_figures(
    weights: torch.Tensor, rewards: tuple[torch.Tensor, torch.Tensor], log_probabilities: tuple[Any, Any]
) -> Figures:
    """TRL's figures of pairs: sums over pairs, and their number.

    Args:
        weights: 1 for each pair that counts, (pairs,).
        rewards: Of chosen and of rejected completions, (pairs,).
        log_probabilities: Likewise.
    """
    (chosen, rejected), count = (reward.detach() for reward in rewards), weights.sum()
    values = {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/accuracies": (chosen > rejected).float(),
        "rewards/margins": chosen - rejected,
        "logps/chosen": log_probabilities[0].detach(),
        "logps/rejected": log_probabilities[1].detach(),
    }
    return {name: ((value * weights).sum(), count) for name, value in values.items()}
