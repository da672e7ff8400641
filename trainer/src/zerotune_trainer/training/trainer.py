"""transformers' Trainer on a DeepSpeed engine: exact batches, evaluation by tokens, whole checkpoints.

What happens around a step is decided by `callbacks`, each over one `StepState`, and by Trainer's own flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from deepspeed.runtime.engine import DeepSpeedEngine
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedModel, PrinterCallback, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.input_errors import input_errors
from zerotune_trainer.mesh import Mesh
from zerotune_trainer.progress import Phase, Reporter
from zerotune_trainer.training.batches import TOKENS, Batch, Collator, CountingCollator, EvenRows, RankRows, Rows
from zerotune_trainer.training.callbacks.metrics_logger import MetricsLogger
from zerotune_trainer.training.checkpoints.writer import CheckpointWriter
from zerotune_trainer.training.evaluation import CONTROL_PERPLEXITY
from zerotune_trainer.training.hf_trainer import Trainer
from zerotune_trainer.training.objective import Objective, Totals
from zerotune_trainer.training.sampling import EpochSampler, SetEpoch
from zerotune_trainer.training.step_state import StepState, StopTraining
from zerotune_trainer.training.zero import check_precision, trained_weights

Evaluate = Callable[[nn.Module, Iterable[Batch], torch.device], dict[str, float]]
"""Figures over this rank's batches, the same on every rank, among them `eval_loss`."""

GenerateSamples = Callable[[PreTrainedModel | PeftModel, int], dict[str, float]]
"""Figures of texts that a model generates after so many steps, the same on every rank."""


class CausalTrainer(Trainer):
    """Trains a causal language model with DeepSpeed, on the rows and with the loss of a method."""

    def __init__(
        self,
        *,
        evaluate: Evaluate,
        objective: Objective | None,
        mesh: Mesh,
        step: StepState,
        report: Reporter,
        metrics: MetricsLogger,
        checkpoints: CheckpointWriter,
        args: TrainingArguments,
        model: PreTrainedModel | PeftModel,
        train_dataset: Rows,
        control_dataset: Rows | None = None,
        samples: GenerateSamples | None = None,
        data_collator: Collator,
        **options: Any,
    ) -> None:
        self.step = step
        self._evaluate_with = evaluate
        self._objective = objective
        self._totals = Totals()
        self._mesh = mesh
        self._report = report
        self._metrics = metrics
        self._checkpoints = checkpoints
        self._rows = train_dataset
        self._control_rows = control_dataset
        self._samples = samples
        self._dtype = model.dtype
        hint = "see TrainingArguments in the documentation of transformers"
        with input_errors(ConfigurationError, "training.arguments", hint):
            super().__init__(
                model=model,
                args=args,
                data_collator=CountingCollator(data_collator),
                train_dataset=EvenRows(train_dataset, mesh.data.size * args.train_batch_size),
                **options,
            )
        if objective is not None:
            self.loss_is_scaled_for_ga = True
        self.remove_callback(PrinterCallback)

    @property
    def engine(self) -> DeepSpeedEngine:
        """DeepSpeed's engine; there is one once training has begun."""
        return self.accelerator.deepspeed_engine_wrapped.engine

    def run(self, checkpoint: Path | None) -> None:
        """Make all steps, from a checkpoint or from the beginning on; a request to stop leaves a checkpoint."""
        try:
            self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except StopTraining:
            self._save_where_it_stopped()

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The optimizer that `training.arguments` names.

        Raises:
            ConfigurationError: it is not there, or not for these arguments.
        """
        with input_errors(ConfigurationError, f"training.arguments.optim {self.args.optim}", "leave `optim` out"):
            return super().create_optimizer(*args, **kwargs)

    def create_scheduler(self, *args: Any, **kwargs: Any) -> Any:
        """The schedule of the learning rate. It is made last: then Trainer loads the checkpoint, if there is one."""
        scheduler = super().create_scheduler(*args, **kwargs)
        check_precision(self.engine, self._dtype)
        self.step.loading = True
        return scheduler

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor | int | None]:
        """The micro batches of an optimizer step, and the tokens with loss in them on all ranks."""
        self.step.number = self.state.global_step + 1
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step.tokens = sum(batch.pop(TOKENS) for batch in batches)
        return batches, items if self._objective is None else self._units(self._objective, batches)

    def compute_loss(self, model: nn.Module, inputs: Batch, *args: Any, **kwargs: Any) -> Any:
        """The loss of a micro batch as transformers computes it, or as the method's own objective does.

        Its share in the step's loss is multiplied by the ranks, over which DeepSpeed takes the mean of gradients.
        """
        if self._objective is None:
            return super().compute_loss(model, inputs, *args, **kwargs)
        measured = self._objective.measure(model, inputs)
        self._totals.add(measured.figures)
        return self._objective.loss(measured, kwargs["num_items_in_batch"]) * self._mesh.data.size

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log figures, and with a training loss those of the objective; every rank calls it."""
        if self._objective is not None and "loss" in logs:
            logs |= self._objective.derived(self._totals.means())
        super().log(logs, *args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward pass of a micro batch, and the optimizer's step after the last of them."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self.step.losses[self.state.global_step + 1].append(loss)
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Evaluate as the method does, and log the figures; they are the same on every rank.

        Raises:
            StopTraining: a rank was asked to stop.
        """
        with self._pause("evaluating"):
            metrics = self._figures(cast(Rows, self.eval_dataset))
            if self._control_rows is not None:
                metrics[CONTROL_PERPLEXITY] = self._figures(self._control_rows)["eval_perplexity"]
            if self._samples is not None:
                metrics |= self._samples(cast(Any, self.model), self.state.global_step)
            self.log(dict(metrics))
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def load_weights(self, checkpoint: Path) -> None:
        """Go back to the weights of a checkpoint."""
        self.engine.load_checkpoint(
            str(checkpoint),
            # That of an adapter holds no weights of its base.
            load_module_strict=not isinstance(self.model, PeftModel),
            load_optimizer_states=True,
            load_lr_scheduler_states=False,
        )

    def gather_weights(self) -> dict[str, Any] | None:
        """The weights that were trained in the dtype of training, on rank 0. Every rank calls it."""
        gathers = self.args.process_index == 0
        # All ranks gather what stage 3 has shared out; below it, each that asks gets a copy of the whole model.
        if isinstance(self.model, PeftModel):
            weights = trained_weights(self.model)
        elif gathers or self.engine.zero_optimization_stage() == 3:
            weights = self.accelerator.get_state_dict(self.model_wrapped)
        return weights if gathers else None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save nothing: DeepSpeed's part of a checkpoint holds the weights; the output is made when all is done."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        if self.args.train_sampling_strategy == "batch_rebalance":
            return cast("Sampler[int]", super()._get_train_sampler(train_dataset))  # It makes the ranks even itself.
        sampler = EpochSampler(
            cast("Sampler[int]", super()._get_train_sampler(cast(Any, self._rows))),
            rows=len(self._rows),
            multiple=self._mesh.data.size * self.args.train_batch_size,
            seed=self.args.data_seed,
        )
        self.add_callback(SetEpoch(sampler))
        return sampler

    def _units(self, objective: Objective, batches: list[Batch]) -> torch.Tensor:
        """What the objective's sums are divided by: those of an optimizer step on all ranks."""
        units = torch.stack([objective.units(batch) for batch in batches]).sum(dim=0).to(self.args.device)
        dist.all_reduce(units)
        return units

    def _get_output_dir(self, *_: Any, **__: Any) -> str:
        return str(self._checkpoints.drafts)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with self._pause("saving"), self._checkpoints.writing(self.state):
            super()._save_checkpoint(model, trial)

    def _save_where_it_stopped(self) -> None:
        saves = self.args.save_strategy != SaveStrategy.NO
        if saves and self.state.global_step and self.step.saved_step != self.state.global_step:
            self._save_checkpoint(self.model_wrapped, trial=None)
            # transformers' loop, which says so after a save of its own, has been left.
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def _figures(self, rows: Rows) -> dict[str, float]:
        return self._evaluate_with(self.model_wrapped, self._evaluation_batches(rows), self.args.device)

    def _evaluation_batches(self, rows: Rows) -> Iterator[Batch]:
        """This rank's share of rows; after each batch the callbacks are called."""
        batches = DataLoader(
            RankRows(rows, self._mesh.data.rank, self._mesh.data.size),
            batch_size=self.args.eval_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            # It draws a seed of workers, which without one of its own it would draw from what dropout draws from.
            generator=torch.Generator(),
        )
        self.callback_handler.eval_dataloader = batches
        for batch in batches:
            yield batch
            self._report.step(self.state.global_step)
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)

    @contextmanager
    def _pause(self, phase: Phase) -> Iterator[None]:
        """Do something else than training: its time is not that of a step."""
        self._metrics.pause()
        self._report.phase(phase)
        yield
        self._report.phase("training")
        self._metrics.resume()
