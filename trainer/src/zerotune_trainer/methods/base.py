"""What a method of a FineTuneJob brings along. Everything else is one path, `train`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase, TrainerCallback

from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data import PreparedData
from zerotune_trainer.training.batches import Batch, Collator

LossFunction = Callable[[Any, torch.Tensor, Any], torch.Tensor]
"""transformers' `compute_loss_func`."""


class Method(ABC):
    """A method: which columns become which rows, how rows become batches, the loss, and what is measured."""

    @abstractmethod
    def prepare(self, config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> PreparedData:
        """The rows to train and to evaluate on, from the columns that the method reads.

        Raises:
            ZerotuneError: as `data.prepare` says.
        """

    @abstractmethod
    def collator(self, config: TrainConfig, tokenizer: PreTrainedTokenizerBase, model: PretrainedConfig) -> Collator:
        """What makes batches of rows.

        Raises:
            ConfigurationError: as `data.collator` says.
        """

    def callbacks(self, config: TrainConfig, collator: Collator) -> list[TrainerCallback]:  # noqa: ARG002
        """What else happens around a step, such as a check before the first."""
        return []

    def loss(self) -> LossFunction | None:
        """The loss of a micro batch, from the model's outputs, the labels, and the tokens with loss of all ranks.

        None: the model's own, which Trainer smoothes where `label_smoothing_factor` says so.
        """
        return None

    @abstractmethod
    def evaluate(self, model: nn.Module, batches: Iterable[Batch], device: torch.device) -> dict[str, float]:
        """Figures over a rank's validation batches, the same on every rank; `eval_loss` decides which state is best.

        Raises:
            DataError: there is nothing to measure.
        """
