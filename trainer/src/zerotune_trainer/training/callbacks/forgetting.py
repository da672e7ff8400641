"""The perplexity of control texts may rise so far and no further: then training ends, with a checkpoint."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from zerotune_trainer.errors import ForgettingError
from zerotune_trainer.training.evaluation import CONTROL_PERPLEXITY
from zerotune_trainer.training.step_state import StepState, StopTraining


class ForgettingLimit(TrainerCallback):
    """Looks at each evaluation, whose figures are the same on all ranks: all of them stop.

    It compares with the first one of the job, which checkpoints keep.

    Args:
        step: Learns why training ends.
        limit: `evaluation.maxControlPerplexityIncrease`.
    """

    def __init__(self, step: StepState, limit: float) -> None:
        self._step = step
        self._limit = limit

    @override
    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Compare.

        Raises:
            StopTraining: the perplexity has risen too far.
        """
        found = kwargs["metrics"][CONTROL_PERPLEXITY]
        first = next(record[CONTROL_PERPLEXITY] for record in state.log_history if CONTROL_PERPLEXITY in record)
        if found <= first * (1 + self._limit):
            return
        self._step.forgotten = ForgettingError(
            f"the perplexity of the control texts is {found:.4g} at step {state.global_step}, {found / first - 1:.1%} "
            f"above the {first:.4g} before training; evaluation.maxControlPerplexityIncrease is {self._limit:g}",
            "mix general text in with data.replay, or more of it, lower training.learningRate, train for fewer steps, "
            "or raise the limit, in a new job",
        )
        # An attempt that goes on from this checkpoint is to find the same.
        self._step.evaluation_pending = True
        raise StopTraining
