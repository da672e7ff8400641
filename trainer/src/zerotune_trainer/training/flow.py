"""When training logs, evaluates, saves and stops, decided the same way on every rank."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from typing_extensions import override

from zerotune_trainer.distributed import Agreement, gather
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.training import zero

if TYPE_CHECKING:
    from zerotune_trainer.training.trainer import CausalTrainer


class Flow(TrainerCallback, ExportableState):
    """Adds to transformers' DefaultFlowCallback: stopping on request, one evaluation and one save a step, NaN."""

    def __init__(self, trainer: CausalTrainer, *, keeps_best: bool, dtype: torch.dtype) -> None:
        self.stopped = False
        self.evaluation_pending = False
        self._trainer = trainer
        self._keeps_best = keeps_best
        self._dtype = dtype
        self._agreement = Agreement(trainer.args.ddp_timeout_delta)
        self._evaluated_at = self._saved_at = -1

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: whether the evaluation that was due at its step is still to be made."""
        return {"args": {}, "attributes": {"evaluation_pending": self.evaluation_pending}}

    @override
    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Check the engine, and make up for an evaluation that a request to stop cut off."""
        zero.check_precision(self._trainer.engine, self._dtype)
        zero.report_grad_norm(self._trainer.engine)
        kept = cast(dict[str, Any], state.stateful_callbacks).get(type(self).__name__, {})
        self._saved_at = state.global_step if state.global_step else -1
        if kept.get("attributes", {}).get("evaluation_pending") and args.eval_strategy != IntervalStrategy.NO:
            self._trainer.evaluate_and_compare()

    @override
    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start telling the others whether this rank was asked to stop."""
        self.tell(tokens=self._trainer.step_tokens)

    @override
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Decide what follows the step."""
        self.stopped, tokens = self._agreement.end()
        state.num_input_tokens_seen += tokens
        if state.global_step >= state.max_steps:
            control.should_evaluate = args.eval_strategy != IntervalStrategy.NO
            control.should_save = args.save_strategy != SaveStrategy.NO
        if self.stopped:
            self._stop(args, state, control)
        if control.should_save or (control.should_evaluate and self._keeps_best):
            # A checkpoint holds no half of a record, and none is saved before its loss was seen to be finite.
            control.should_log = True

    @override
    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The last step of an epoch may already have evaluated and saved."""
        control.should_evaluate &= not self.stopped and self._evaluated_at != state.global_step
        control.should_save &= not self.stopped and self._saved_at != state.global_step
        control.should_log |= control.should_save

    @override
    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Keep the state that evaluates best, where the output is to be made of it."""
        self._evaluated_at = state.global_step
        assert metrics is not None, "CausalTrainer.evaluate gives them"
        loss = metrics["eval_loss"]
        if not math.isfinite(loss):
            raise ConfigurationError(
                f"the evaluation loss is {loss} at step {state.global_step}",
                "see that the model's weights are finite in the precision asked for"
                if not state.global_step
                else _REMEDY,
            )
        if (
            self._keeps_best
            and state.global_step
            and loss < (math.inf if state.best_metric is None else state.best_metric)
        ):
            control.should_save = self._saved_at != state.global_step

    @override
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Note that this step has its checkpoint."""
        self._saved_at = state.global_step

    @override
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Fail on a loss that is not finite; `logs` holds its mean over all ranks, so all of them fail."""
        if logs is None or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise _diverged(self._trainer.losses(), state, logs["learning_rate"])
        self._trainer.forget_losses()

    def tell(self, *, tokens: int = 0) -> None:
        """Start telling the others whether this rank was asked to stop. Every rank calls it at the same point."""
        self._agreement.begin(stop=self._trainer.context.stop.is_set(), tokens=tokens)

    def heard_stop(self) -> bool:
        """Whether any rank said in `tell` that it was asked to stop."""
        self.stopped, _ = self._agreement.end()
        return self.stopped

    def is_saved(self, state: TrainerState) -> bool:
        """Whether the current step has its checkpoint."""
        return self._saved_at == state.global_step

    def _stop(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        epoch_ends = state.epoch is not None and state.epoch == int(state.epoch)
        by_epoch = args.eval_strategy == IntervalStrategy.EPOCH and epoch_ends
        self.evaluation_pending = control.should_evaluate or by_epoch
        control.should_evaluate = False
        control.should_save = args.save_strategy != SaveStrategy.NO
        control.should_training_stop = True


_REMEDY = "lower training.learningRate, lengthen training.warmupSteps, or train in bf16 or fp32 instead of fp16"


def _diverged(losses: dict[int, float], state: TrainerState, learning_rate: float) -> ConfigurationError:
    """The error for a loss that is not finite: which step, the last loss before it, and the learning rate."""
    of_ranks = gather(losses)
    means = {step: sum(rank[step] for rank in of_ranks) / len(of_ranks) for step in sorted(losses)}
    first = next((step for step, loss in means.items() if not math.isfinite(loss)), state.global_step)
    before = [loss for step, loss in means.items() if step < first]
    before = (
        before or [loss for record in state.log_history if math.isfinite(loss := record.get("loss", math.nan))][-1:]
    )
    last = f"the last finite loss was {before[-1]:.4f}" if before else "there was no finite loss before it"
    return ConfigurationError(
        f"the loss is {means.get(first, math.nan)} at step {first}; {last}; the learning rate was {learning_rate:.3g}",
        _REMEDY,
    )
