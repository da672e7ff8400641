"""What a method of a FineTuneJob brings along. Everything else is one path, `train`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
from peft import PeftModel
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data import DataCounts, PreparedData
from zerotune_trainer.training.batches import Batch, Collator, Rows
from zerotune_trainer.training.objective import Objective
from zerotune_trainer.training.reference import Reference

Evaluate = Callable[[nn.Module, Iterable[Batch], torch.device], dict[str, float]]
"""Figures over a rank's validation batches, the same on every rank; `eval_loss` decides which state is best.

Raises a DataError where there is nothing to measure.
"""


class Method(ABC):
    """A method: which columns become which rows, how rows become batches, the loss, and what is measured."""

    @abstractmethod
    def prepare(self, config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> PreparedData:
        """The rows to train and to evaluate on, from the columns that the method reads.

        Raises:
            ZerotuneError: as `data.prepare` says.
        """

    def warnings(self, config: TrainConfig, counts: DataCounts) -> list[str]:  # noqa: ARG002
        """What a person should know of the data, though the method can train on it."""
        return []

    @abstractmethod
    def collator(self, config: TrainConfig, tokenizer: PreTrainedTokenizerBase, model: PretrainedConfig) -> Collator:
        """What makes batches of rows.

        Raises:
            ConfigurationError: as `data.collator` says.
        """

    def completed(
        self,
        rows: PreparedData,
        reference: Reference,  # noqa: ARG002
        collator: Collator,  # noqa: ARG002
    ) -> tuple[Rows, Rows | None]:
        """The rows to train and to evaluate on, with what a reference gives them. Called before the model is loaded."""
        return rows.train, rows.validation

    def callbacks(self, config: TrainConfig, collator: Collator) -> list[TrainerCallback]:  # noqa: ARG002
        """What else happens around a step, such as a check before the first."""
        return []

    def extend(self, model: PreTrainedModel | PeftModel) -> None:  # noqa: B027 (most have nothing to add)
        """Let the model give what the loss is made of, before anything wraps it."""

    def objective(self, config: TrainConfig) -> Objective | None:  # noqa: ARG002
        """What is minimized. None: the model's own loss, which Trainer smooths by `label_smoothing_factor`."""
        return None

    @abstractmethod
    def evaluation(self, config: TrainConfig) -> Evaluate:
        """How a state of training is evaluated."""
