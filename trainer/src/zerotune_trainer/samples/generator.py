"""Generates with a model that is being trained, on all ranks together, and measures and keeps what it generates.

At every ZeRO stage the model generates as it is: layers that are partitioned are gathered one after another, as in a
forward pass of training, so that no rank ever holds more than it does while it trains.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zerotune_trainer import collectives
from zerotune_trainer.config.text_evaluation import TextEvaluation
from zerotune_trainer.context import RankContext
from zerotune_trainer.engines.zero import ZeroEngine
from zerotune_trainer.errors import StoppedError
from zerotune_trainer.inference.engine import ModelReplica, Request
from zerotune_trainer.plugin import LoadedPlugin
from zerotune_trainer.reporting.results import GENERATION, Sample
from zerotune_trainer.samples.metrics import load_metrics
from zerotune_trainer.samples.prompts import SamplePrompt
from zerotune_trainer.storage import Folder
from zerotune_trainer.training.samples import samples_path
from zerotune_trainer.training.step_state import StepState, StopTraining

_log = logging.getLogger(__name__)


class _TrainingEngine(ZeroEngine):
    """Generates with a model whose parameters go on being trained: they may not become tensors of inference mode."""

    mode = torch.no_grad


class SampleGenerator:
    """Called with a model and a step by all ranks; each generates for a share of the prompts."""

    def __init__(
        self,
        settings: TextEvaluation,
        prompts: Sequence[SamplePrompt],
        tokenizer: PreTrainedTokenizerBase,
        plugin: LoadedPlugin | None,
        context: RankContext,
        output: Folder,
        step: StepState,
        *,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self._settings = settings
        self._prompts = prompts
        self._tokenizer = tokenizer
        self._metrics = load_metrics(settings.metrics, plugin)
        self._context = context
        self._output = output
        self._step = step
        self._device = device
        self._batch_size = batch_size

    def __call__(self, model: PreTrainedModel | PeftModel, step: int) -> dict[str, float]:
        """Generate, keep the texts, and give their figures.

        Raises:
            StopTraining: a rank was asked to stop.
            PluginError: a metric of the user's failed.
        """
        texts = self._texts(model, step)

        def measure() -> dict[str, float]:
            self._keep(texts, step)
            return self._figures(texts)

        figures = collectives.on_first_rank(measure, dict[str, float])
        return {f"eval_{GENERATION}{name}": value for name, value in figures.items()}

    def _texts(self, model: PreTrainedModel | PeftModel, step: int) -> list[str]:
        """The text for each prompt."""
        ranks = tuple(range(self._context.world_size))
        replica = ModelReplica(ranks, self._context.rank, self._context.local_rank)
        requests = [Request(number, prompt.ids) for number, prompt in enumerate(self._prompts)]
        with _as_it_was(model, self._device) as whole:
            engine = _TrainingEngine(
                whole, self._tokenizer, self._settings, self._batch_size, "generate", replica, self._device
            )
            try:
                found = {
                    each.record: cast(list[list[int]], each.results)[0]
                    for each in engine.run(requests, self._on_token(step))
                }
            except StoppedError:
                self._step.stopped = self._step.evaluation_pending = True
                raise StopTraining from None
            finally:
                engine.close()
        rows = [found[number] for number in range(len(requests))]
        return self._tokenizer.batch_decode(rows, skip_special_tokens=self._settings.skip_special_tokens)

    def _on_token(self, step: int) -> Callable[[], None]:
        def report() -> None:
            self._context.report.step(step)
            if self._context.stop.is_set():
                raise StoppedError("stopped on request while texts were generated")

        return report

    def _figures(self, texts: list[str]) -> dict[str, float]:
        references = [prompt.reference or "" for prompt in self._prompts]
        return {name: value for metric in self._metrics for name, value in metric(texts, references).items()}

    def _keep(self, texts: list[str], step: int) -> None:
        samples = [
            Sample(step=step, record=prompt.record, prompt=prompt.text, reference=prompt.reference, generation=text)
            for prompt, text in zip(self._prompts, texts, strict=True)
        ]
        lines = "".join(sample.model_dump_json(by_alias=True) + "\n" for sample in samples)
        path = samples_path(step)
        (self._output.local / path).parent.mkdir(exist_ok=True)
        self._output.write(path, lines.encode())


@contextmanager
def _as_it_was(model: PreTrainedModel | PeftModel, device: torch.device) -> Iterator[PreTrainedModel]:
    """The model without the wrapper of an adapter. What generating changes of it, and of random numbers, is undone."""
    whole = cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)
    settings: Any = whole.generation_config
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield whole
    whole.generation_config = settings
