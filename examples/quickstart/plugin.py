"""Code of your own in a FineTuneJob: each function takes the place of a part, and `plugin.yaml` names those it uses."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

GAMMA = 2.0


def clean(record: dict[str, Any]) -> dict[str, Any]:
    """The record to use instead of a record."""
    return record | {"messages": [turn | {"content": turn["content"].strip()} for turn in record["messages"]]}


def as_text(record: dict[str, Any]) -> str:
    """The text of a record, for `formattingFunc`."""
    question, answer = (turn["content"] for turn in record["messages"])
    return f"Question: {question}\nAnswer: {answer}"


def focal_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None) -> torch.Tensor:
    """Focal loss (Lin et al., https://arxiv.org/abs/1708.02002): tokens that the model is sure of count less.

    Args:
        outputs: What the model gives; `outputs.logits` is (rows, length, vocabulary).
        labels: (rows, length), -100 where no loss is wanted.
        num_items_in_batch: Tokens with loss in all micro batches of the step, on all ranks.
    """
    logits, targets = outputs.logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()
    losses = cross_entropy(logits, targets, ignore_index=-100, reduction="none")
    total = ((1 - torch.exp(-losses)) ** GAMMA * losses).sum()
    return total / (num_items_in_batch if num_items_in_batch is not None else (targets != -100).sum())


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch of rows, whose `input_ids` and `labels` are int32 arrays: padded to the same length, always."""
    length = max(64, max(len(row["input_ids"]) for row in rows))

    def padded(name: str, filler: int) -> torch.Tensor:
        return torch.tensor([[*row[name].tolist(), *[filler] * (length - len(row[name]))] for row in rows])

    masks = [[1] * len(row["input_ids"]) + [0] * (length - len(row["input_ids"])) for row in rows]
    return {
        "input_ids": padded("input_ids", 0),
        "labels": padded("labels", -100),
        "attention_mask": torch.tensor(masks),
    }


def names_the_cwe(predictions: list[str], references: list[str]) -> float:
    """A metric of generated texts: the share that has the first word of its reference, such as a number of a CWE."""
    pairs = zip(predictions, references, strict=True)
    return sum(reference.split()[0] in prediction for prediction, reference in pairs) / len(references)


class StopWhenLearned(TrainerCallback):
    """Ends training, with an evaluation and a checkpoint, when the loss is low. Every rank sees the same loss."""

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        """Called with each log record."""
        if logs.get("loss", 100.0) < 0.05:
            control.should_training_stop = control.should_evaluate = control.should_save = True
