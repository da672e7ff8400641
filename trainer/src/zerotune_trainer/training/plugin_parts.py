"""What a plug-in brings to training: a loss, a collator, callbacks. What they return is checked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl

from zerotune_trainer.config.functions import CALLBACK, COLLATOR, LOSS, no_callback
from zerotune_trainer.config.plugin import Plugin
from zerotune_trainer.counting import counted
from zerotune_trainer.plugin import LoadedPlugin, load_plugin
from zerotune_trainer.training.batches import Batch, Collator, Row
from zerotune_trainer.training.step_state import StepState

ComputeLoss = Callable[..., torch.Tensor]
"""As transformers' `compute_loss_func`: `(outputs, labels, num_items_in_batch=...)`."""


class PluginParts:
    """The parts of training that a job's plug-in defines, ready to use.

    Args:
        plugin: What the job says of it. None: nothing is defined.
        step: Says which step is being made.

    Raises:
        InputMissingError, ConfigurationError, TemporaryError: as `load_plugin`, or a function is not there, or is none
            of its kind.
    """

    def __init__(self, plugin: Plugin | None, step: StepState) -> None:
        self._names = plugin or Plugin()
        self._loaded = load_plugin(plugin)
        self._step = step
        self._loss = self._function(self._names.compute_loss_func, LOSS)
        self._collator = self._function(self._names.data_collator, COLLATOR)
        self._callbacks = [self._made(name) for name in self._names.callbacks]

    def loss(self) -> ComputeLoss | None:
        """The loss of a micro batch; None where the method's own is used."""
        return self._loss and partial(self._computed, *self._loss)

    def collator(self) -> Collator | None:
        """What makes batches of rows; None where the method's own does."""
        return self._collator and partial(self._collated, *self._collator)

    def callbacks(self) -> list[TrainerCallback]:
        """What is called around a step."""
        return self._callbacks

    def _function(self, name: str | None, signature: Any) -> tuple[LoadedPlugin, str, Callable[..., Any]] | None:
        if name is None or self._loaded is None:
            return None
        return self._loaded, name, self._loaded.function(name, signature)

    @property
    def _place(self) -> str:
        return f"at step {self._step.number}"

    def _computed(
        self, plugin: LoadedPlugin, name: str, function: ComputeLoss, outputs: Any, labels: Any, **options: Any
    ) -> torch.Tensor:
        with plugin.errors(name, self._place):
            loss = function(outputs, labels, **options)
        if not (isinstance(loss, torch.Tensor) and loss.numel() == 1 and loss.requires_grad):
            raise plugin.wrong(
                name,
                self._place,
                f"returned {_described(loss)}",
                "return a tensor of one number that depends on outputs.logits: the sum over tokens divided by "
                "num_items_in_batch",
            )
        return loss.reshape(())

    def _collated(
        self, plugin: LoadedPlugin, name: str, function: Callable[[list[Row]], Any], rows: list[Row]
    ) -> Batch:
        arrays = [{key: np.asarray(value, dtype=np.int32) for key, value in row.items()} for row in rows]
        with plugin.errors(name, self._place):
            batch = function(arrays)
        if problem := _batch_problem(batch, len(rows)):
            raise plugin.wrong(
                name,
                self._place,
                f"returned {problem}",
                "return a dict with tensors of whole numbers input_ids, attention_mask and labels, each (rows, length)",
            )
        return dict(batch)

    def _made(self, name: str) -> TrainerCallback:
        assert self._loaded is not None, "a plug-in that names callbacks has a file"
        kind = self._loaded.function(name, CALLBACK)
        if not (isinstance(kind, type) and issubclass(kind, TrainerCallback)):
            raise no_callback(self._loaded.file, name)
        with self._loaded.errors(name, "when it was made"):
            callback: TrainerCallback = kind()
        for event in (event for event in dir(TrainerCallback) if event.startswith("on_")):
            setattr(callback, event, partial(self._called, self._loaded, f"{name}.{event}", getattr(callback, event)))
        return callback

    def _called(
        self,
        plugin: LoadedPlugin,
        name: str,
        function: Callable[..., Any],
        args: Any,
        state: Any,
        *rest: Any,
        **more: Any,
    ) -> TrainerControl | None:
        place = f"at step {state.global_step}"
        with plugin.errors(name, place):
            control = function(args, state, *rest, **more)
        if control is not None and not isinstance(control, TrainerControl):
            raise plugin.wrong(
                name, place, f"returned {type(control).__name__}", "return nothing, or the control that it was given"
            )
        return control


def _described(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return f"a value of type {type(value).__name__}"
    return f"a tensor of shape {tuple(value.shape)}" + ("" if value.requires_grad else " without a gradient")


def _batch_problem(batch: Any, rows: int) -> str:
    """What is wrong with a batch; empty where nothing is."""
    if not isinstance(batch, dict) and not hasattr(batch, "keys"):
        return f"a value of type {type(batch).__name__}"
    shapes = set()
    for name in ("input_ids", "labels"):
        tensor = batch.get(name)
        if not isinstance(tensor, torch.Tensor) or tensor.is_floating_point() or tensor.ndim != 2:
            return f"{_described(tensor)} as {name}"
        shapes.add(tuple(tensor.shape))
    if len(shapes) > 1 or next(iter(shapes))[0] != rows:
        return f"input_ids and labels of the shapes {sorted(shapes)} for {counted(rows, 'row')}"
    return ""
