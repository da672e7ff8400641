"""A loss that is not finite ends the job, before a checkpoint is made of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.training.step_state import StepState

Gather = Callable[[dict[int, float]], list[dict[int, float]]]
_REMEDY = "lower training.learningRate, lengthen training.warmupSteps, or train in bf16 or fp32 instead of fp16"


class FiniteLoss(TrainerCallback):
    """Looks at each log record and evaluation; their losses are the same on all ranks, so all of them fail."""

    def __init__(self, step: StepState, gather: Gather) -> None:
        self._step = step
        self._gather = gather

    @override
    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look at the mean loss since the last record.

        Raises:
            ConfigurationError: it is not finite: at which step, the last loss before it, and the learning rate.
        """
        logs = kwargs["logs"]
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise self._diverged(state, logs["learning_rate"])
        self._step.losses.clear()

    @override
    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look at the loss of an evaluation.

        Raises:
            ConfigurationError: it is not finite.
        """
        loss = kwargs["metrics"]["eval_loss"]
        if not math.isfinite(loss):
            before = "see that the model's weights are finite in the precision asked for"
            raise ConfigurationError(
                f"the evaluation loss is {loss} at step {state.global_step}",
                _REMEDY if state.global_step else before,
            )

    def _diverged(self, state: TrainerState, learning_rate: float) -> ConfigurationError:
        losses = {step: float(torch.stack(parts).sum()) for step, parts in self._step.losses.items()}
        of_ranks = self._gather(losses)
        means = {step: sum(rank[step] for rank in of_ranks) / len(of_ranks) for step in sorted(losses)}
        first = next((step for step, loss in means.items() if not math.isfinite(loss)), state.global_step)
        before = [loss for step, loss in means.items() if step < first] or _logged(state)
        last = f"the last finite loss was {before[-1]:.4f}" if before else "there was no finite loss before it"
        return ConfigurationError(
            f"the loss is {means.get(first, math.nan)} at step {first}; {last}; "
            f"the learning rate was {learning_rate:.3g}",
            _REMEDY,
        )


def _logged(state: TrainerState) -> list[float]:
    return [loss for record in state.log_history if math.isfinite(loss := record.get("loss", math.nan))]
