"""transformers' Trainer with exact batches, evaluation by tokens, stopping together and whole checkpoints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from deepspeed.runtime.engine import DeepSpeedEngine
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PrinterCallback, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from zerotune_trainer.context import RankContext
from zerotune_trainer.progress import Phase
from zerotune_trainer.training.batches import TOKENS, Batch, Collator, CountingCollator, EvenRows, RankRows, Rows
from zerotune_trainer.training.checkpoint import Checkpoints
from zerotune_trainer.training.evaluation import perplexity, token_loss
from zerotune_trainer.training.flow import Flow
from zerotune_trainer.training.hf_trainer import Trainer
from zerotune_trainer.training.records import Recorder


class EvaluationStoppedError(Exception):
    """A rank was asked to stop while all evaluate. Leaves transformers' loop and goes no further than `train`."""


class CausalTrainer(Trainer):
    """Trains a causal language model on rows of `input_ids` and `labels` with DeepSpeed."""

    def __init__(
        self,
        *,
        context: RankContext,
        checkpoints: Checkpoints,
        recorder: Recorder,
        args: TrainingArguments,
        model: PreTrainedModel,
        train_dataset: Rows,
        data_collator: Collator,
        **options: Any,
    ) -> None:
        self.context = context
        self.recorder = recorder
        self.checkpoints = checkpoints
        self.step_tokens = 0
        self._losses: dict[int, list[torch.Tensor]] = defaultdict(list)
        super().__init__(
            model=model,
            args=args,
            data_collator=CountingCollator(data_collator),
            train_dataset=EvenRows(train_dataset, args.world_size * args.train_batch_size),
            **options,
        )
        self.flow = Flow(self, keeps_best=checkpoints.keeps_best, dtype=model.dtype)
        self.remove_callback(PrinterCallback)
        self.add_callback(recorder)
        self.add_callback(self.flow)

    @property
    def engine(self) -> DeepSpeedEngine:
        """DeepSpeed's engine; there is one once training has begun."""
        return self.model_wrapped

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor | int | None]:
        """The micro batches of an optimizer step, and the tokens with loss in them on all ranks."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_tokens = sum(batch.pop(TOKENS) for batch in batches)
        return batches, items

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward pass of a micro batch, and the optimizer's step after the last of them."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self._losses[self.state.global_step + 1].append(loss)
        return loss

    def losses(self) -> dict[int, float]:
        """This rank's loss by step, since the last record."""
        return {step: float(torch.stack(parts).sum()) for step, parts in self._losses.items()}

    def forget_losses(self) -> None:
        """Drop the losses: a record holds them."""
        self._losses.clear()

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Loss and perplexity over the validation rows, weighted by tokens, the same on every rank.

        Raises:
            EvaluationStoppedError: a rank was asked to stop.
        """
        with self._pause("evaluating"):
            loss = token_loss(self.model_wrapped, self._told_batches(), self.args.device)
            metrics = {"eval_loss": loss, "eval_perplexity": perplexity(loss)}
            self.log(dict(metrics))
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def evaluate_and_compare(self) -> None:
        """Evaluate, and note whether no state before was better."""
        self._determine_best_metric(metrics=self.evaluate(), trial=None)

    def save_interrupted(self) -> None:
        """Save the state whose evaluation was cut off; the resumed job makes up for it."""
        self.flow.evaluation_pending = True
        saves = self.args.save_strategy != SaveStrategy.NO
        if saves and self.state.global_step and not self.flow.is_saved(self.state):
            self._save_checkpoint(self.model_wrapped, trial=None)
            # transformers' loop, which says so after a save of its own, has been left.
            self.flow.on_save(self.args, self.state, self.control)

    def load_weights(self, checkpoint: Path) -> None:
        """Go back to the weights of a checkpoint."""
        self.engine.load_checkpoint(str(checkpoint), load_optimizer_states=True, load_lr_scheduler_states=False)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save nothing: DeepSpeed's part of a checkpoint holds the weights, and `model.save_model` makes the output."""

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # A job that was cut off after its last step has a checkpoint of it: transformers would make one step more.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with self._pause("saving"), self.checkpoints.writing(self.state):
            super()._save_checkpoint(model, trial)

    def _told_batches(self) -> Iterator[Batch]:
        """This rank's share of the validation rows; before each batch all ranks see whether one was asked to stop."""
        batches = DataLoader(
            RankRows(cast(Rows, self.eval_dataset), self.args.process_index, self.args.world_size),
            batch_size=self.args.eval_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
        )
        for batch in batches:
            self.flow.tell()
            yield batch
            self.context.report.step(self.state.global_step)
            if self.flow.heard_stop():
                raise EvaluationStoppedError

    @contextmanager
    def _pause(self, phase: Phase) -> Iterator[None]:
        """Do something else than training: its time is not that of a step."""
        self.recorder.pause()
        self.context.report.phase(phase)
        yield
        self.context.report.phase("training")
        self.recorder.resume()
