"""A shard of records through prompts and engine, to rows of output."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from zerotune_trainer.config import InferConfig
from zerotune_trainer.data.processing import Process
from zerotune_trainer.engines.base import Engine, Prompt
from zerotune_trainer.errors import DataError, InputMissingError
from zerotune_trainer.inference.prompts import Prompts
from zerotune_trainer.inference.rows import OutputRow, refuse_clash
from zerotune_trainer.inference.source import Entry
from zerotune_trainer.inference.tracking import ProgressTracker
from zerotune_trainer.inference.work import BatchFigures

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardGenerator:
    """Generates for a shard at a time."""

    config: InferConfig
    process: Process
    prompts: Prompts
    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    tracker: ProgressTracker

    def generate(self, entries: Sequence[Entry]) -> tuple[list[OutputRow], list[BatchFigures]]:
        """A row for each entry, in their order, and what each batch took.

        Raises:
            ConfigurationError: a record has a column that the output needs.
            StoppedError: the rank was asked to stop.
        """
        for entry in entries:
            refuse_clash(entry.record, self.config.output_format)
        texts, errors = self._texts(entries)
        prompts = self._prompts(entries, texts, errors)
        self.tracker.count(records=len(errors), failed=len(errors), tokens=0)
        generations: dict[int, list[str]] = {}
        figures = []
        for batch in self._batches(prompts):
            texts_of_batch, figure = self._generate(batch)
            generations.update(texts_of_batch)
            figures.append(figure)
        return [self._row(entry, generations, errors) for entry in entries], figures

    def _texts(self, entries: Sequence[Entry]) -> tuple[dict[int, str], dict[int, str]]:
        """Prompts as text, and errors, by record number."""
        texts: dict[int, str] = {}
        errors: dict[int, str] = {}
        for entry in entries:
            if entry.record is None:
                errors[entry.number] = entry.error
                continue
            try:
                texts[entry.number] = self.prompts.text(self.process(entry.record))
            except (DataError, InputMissingError) as error:
                errors[entry.number] = error.message
        return texts, errors

    def _prompts(self, entries: Sequence[Entry], texts: dict[int, str], errors: dict[int, str]) -> list[Prompt]:
        """Prompts as tokens; one that nothing can be generated for is added to the errors instead."""
        locations = {entry.number: entry.location for entry in entries}
        prompts = []
        for number, ids in zip(texts, self.prompts.tokens(list(texts.values())), strict=True):
            if problem := self.prompts.problem(ids):
                errors[number] = f"{locations[number]}: {problem}"
            else:
                prompts.append(Prompt(number, ids))
        return prompts

    def _batches(self, prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
        """Prompts of like length together, so that little is padding; the longest first, which need the most memory."""
        ordered = sorted(prompts, key=lambda prompt: (-len(prompt.ids), prompt.record))
        size = self.config.per_device_batch_size
        return (ordered[start : start + size] for start in range(0, len(ordered), size))

    def _generate(self, batch: list[Prompt]) -> tuple[dict[int, list[str]], BatchFigures]:
        began = time.monotonic()
        generated = self.engine.generate(batch, self.tracker.heartbeat)
        seconds = time.monotonic() - began
        figures = BatchFigures(
            records=len(batch),
            prompt_tokens=sum(len(prompt.ids) for prompt in batch),
            new_tokens=sum(len(ids) for sequences in generated for ids in sequences),
            seconds=seconds,
        )
        self.tracker.count(records=len(batch), failed=0, tokens=figures.new_tokens)
        _log.info(
            "batch of %d records: %d tokens in %.2f s, %.0f tokens/s",
            figures.records,
            figures.new_tokens,
            seconds,
            figures.new_tokens / seconds,
        )
        return {prompt.record: self._decoded(ids) for prompt, ids in zip(batch, generated, strict=True)}, figures

    def _decoded(self, sequences: list[list[int]]) -> list[str]:
        skip = self.config.generation.skip_special_tokens
        return self.tokenizer.batch_decode(sequences, skip_special_tokens=skip)

    def _row(self, entry: Entry, generations: dict[int, list[str]], errors: dict[int, str]) -> OutputRow:
        columns = entry.record.values if entry.record is not None else {}
        if entry.number in errors:
            return OutputRow(columns, entry.raw, error=errors[entry.number])
        texts = generations[entry.number]
        is_several = self.config.generation.num_return_sequences > 1
        return OutputRow(columns, entry.raw, generation=texts if is_several else texts[0])
