"""All ranks stop together: each sends the others once a step whether it was asked to."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from typing_extensions import override

from zerotune_trainer.training.step_state import StepState, StopTraining


class StepSync(Protocol):
    """An exchange of all ranks, as `distributed.StepSync`."""

    def start(self, *, stop: bool, tokens: int) -> None:
        """Start the exchange."""

    def wait(self) -> tuple[bool, int]:
        """Whether any rank is to stop, and the tokens of all ranks."""


class StopTogether(TrainerCallback):
    """Ends training after the step, or the batch of an evaluation, in which a rank was asked to stop.

    The exchange of a step runs beside its forward and backward pass. It also sums up the tokens of the ranks.
    """

    def __init__(self, step: StepState, asked: threading.Event, sync: StepSync) -> None:
        self._step = step
        self._asked = asked
        self._sync = sync

    @override
    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the exchange of the step."""
        self._sync.start(stop=self._asked.is_set(), tokens=self._step.tokens)

    @override
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Wait for the exchange. A stop saves where anything is saved; the next attempt makes the evaluation."""
        self._step.stopped, tokens = self._sync.wait()
        state.num_input_tokens_seen += tokens
        if not self._step.stopped:
            return
        epoch_ends = state.epoch is not None and state.epoch == int(state.epoch)
        by_epoch = args.eval_strategy == IntervalStrategy.EPOCH and epoch_ends
        self._step.evaluation_pending = control.should_evaluate or by_epoch
        control.should_evaluate = False
        control.should_save = args.save_strategy != SaveStrategy.NO
        control.should_log |= control.should_save
        control.should_training_stop = True

    @override
    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The step that stopped was the last of its epoch: nothing is done for that any more."""
        if self._step.stopped:
            control.should_evaluate = control.should_save = False

    @override
    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Leave an evaluation.

        Raises:
            StopTraining: a rank was asked to stop.
        """
        self._sync.start(stop=self._asked.is_set(), tokens=0)
        self._step.stopped, _tokens = self._sync.wait()
        if self._step.stopped:
            self._step.evaluation_pending = True
            raise StopTraining
