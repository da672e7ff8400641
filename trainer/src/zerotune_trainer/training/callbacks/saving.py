"""When to evaluate and save: each at most once a step, both after the last step, and the state that evaluates best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from typing_extensions import override

from zerotune_trainer.training.step_state import StepState, StopTraining

_STATE_NAME = "trainer_state.json"
_PENDING = "evaluation_pending"


class SaveOnce(TrainerCallback, ExportableState):
    """Adds to transformers' DefaultFlowCallback, which decides by steps and epochs alone."""

    def __init__(self, step: StepState, *, keeps_best: bool) -> None:
        self._step = step
        self._keeps_best = keeps_best

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: whether the evaluation that was due at its step is still to be made."""
        return {"args": {}, "attributes": {_PENDING: self._step.evaluation_pending}}

    @override
    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """All is loaded. A run that was resumed has the checkpoint of its first step."""
        self._step.loading = False
        if state.global_step:
            self._step.saved_step = state.global_step

    @override
    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """See that there is a step to make: Trainer makes one before it checks.

        Raises:
            StopTraining: the run was cut off after its last step.
        """
        if state.global_step >= state.max_steps:
            raise StopTraining

    @override
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluate and save after the last step, and log what a checkpoint is to hold."""
        if state.global_step >= state.max_steps:
            control.should_evaluate = args.eval_strategy != IntervalStrategy.NO
            control.should_save = args.save_strategy != SaveStrategy.NO
            # However many steps a record is made of, the output has one.
            control.should_log = True
        if control.should_save or (control.should_evaluate and self._keeps_best):
            # A checkpoint holds no half of a record, and none is saved before its loss was seen to be finite.
            control.should_log = True

    @override
    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The last step of an epoch may already have evaluated and saved."""
        control.should_evaluate &= self._step.evaluated_step != state.global_step
        control.should_save &= self._step.saved_step != state.global_step
        control.should_log |= control.should_save

    @override
    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Note a state that is better than all before, and keep it where the output is to be made of the best."""
        self._step.evaluated_step = state.global_step
        loss, best = kwargs["metrics"]["eval_loss"], math.inf if state.best_metric is None else state.best_metric
        if not state.global_step or loss >= best:
            return
        state.best_metric = loss
        if args.save_strategy != SaveStrategy.NO:
            state.best_global_step = state.global_step
        if self._keeps_best:
            control.should_save = self._step.saved_step != state.global_step

    @override
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Note that this step has its checkpoint."""
        self._step.saved_step = state.global_step


def evaluation_is_pending(checkpoint: Path) -> bool:
    """Whether the evaluation that was due at the step of a checkpoint is still to be made."""
    state = TrainerState.load_from_json(str(checkpoint / _STATE_NAME))
    kept = (state.stateful_callbacks or {}).values()
    return any(isinstance(one, dict) and one.get("attributes", {}).get(_PENDING) for one in kept)
