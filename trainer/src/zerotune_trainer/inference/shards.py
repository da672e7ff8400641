"""A shard of records through prompts and engine, to its output file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import orjson
from transformers import PreTrainedTokenizerBase

from zerotune_trainer.config import InferConfig
from zerotune_trainer.counting import counted
from zerotune_trainer.data.processing import Process
from zerotune_trainer.errors import DataError, InputMissingError, InternalError, StoppedError
from zerotune_trainer.inference.committing import Committer
from zerotune_trainer.inference.engine import Engine, Request, Results, Score, Sequences, Vector
from zerotune_trainer.inference.model_replica import ModelReplicaChannel
from zerotune_trainer.inference.output import ShardFiles
from zerotune_trainer.inference.partial import PartialShard, Texts
from zerotune_trainer.inference.prompts import Prompts
from zerotune_trainer.inference.rows import OutputRow
from zerotune_trainer.inference.scoring import Scoring
from zerotune_trainer.inference.source import Entry, Source
from zerotune_trainer.inference.tracking import ProgressTracker
from zerotune_trainer.plugin import PluginError

_log = logging.getLogger(__name__)

_Errors = dict[int, str]
"""Why nothing can be generated for a record, by its number."""


@dataclass(frozen=True)
class ShardGenerator:
    """Makes the output file of a shard at a time. The leader of a model replica has one."""

    config: InferConfig
    source: Source
    process: Process
    prompts: Prompts
    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    files: ShardFiles
    scoring: Scoring | None = None
    """For task `score`."""
    committer: Committer = field(default_factory=Committer)

    def make(self, shard: int, tracker: ProgressTracker, channel: ModelReplicaChannel) -> None:
        """Generate what is missing of a shard, and have it written.

        Raises:
            DataError: more records have an error than may have.
            StoppedError: the rank was asked to stop; whole batches are kept.
            SupersededError: a later attempt has the output folder.
        """
        entries = self.source.read(self.files.plan.records_of(shard))
        partial = self.files.partial(shard)
        requests, errors = self._requests(entries)
        tracker.begin(partial_records=len(partial.texts), failed=len(errors))
        if errors:
            self._require_few_errors(tracker.failed(), next(iter(errors.values())))
        longest = max((each.length for each in requests), default=0)
        todo = [replace(each, longest=longest) for each in requests if each.record not in partial.texts]
        self._generate(todo, partial, tracker, channel)
        rows = [self._row(entry, partial.texts, errors) for entry in entries]
        self.committer.submit(lambda: self._write(shard, rows, partial, tracker))

    def _write(self, shard: int, rows: Sequence[OutputRow], partial: PartialShard, tracker: ProgressTracker) -> None:
        if self.files.write(shard, rows, partial):
            tracker.counters.add_written(len(rows), sum(row.error is not None for row in rows))

    def _require_few_errors(self, failed: int, example: str) -> None:
        rate, records = self.config.max_error_rate, self.files.plan.records
        if rate is not None and failed > rate * records:
            raise DataError(
                f"{failed} of {records} records have an error, and maxErrorRate is {rate:g}; one of them: {example}",
                "correct the records, the template or the plug-in, or raise maxErrorRate",
            )

    def _requests(self, entries: Sequence[Entry]) -> tuple[list[Request], _Errors]:
        texts, errors = self._texts(entries)
        locations = {entry.number: entry.location for entry in entries}
        requests = []
        for request, problem in self._tokenized(texts):
            if problem:
                errors[request.record] = f"{locations[request.record]}: {problem}"
            else:
                requests.append(request)
        return requests, errors

    def _tokenized(self, texts: Sequence[tuple[int, str, list[str]]]) -> Iterator[tuple[Request, str]]:
        if self.scoring is not None:
            yield from self.scoring.requests(texts)
            return
        rows = self.prompts.tokens([prompt for _, prompt, _ in texts])
        for (number, _, _), ids in zip(texts, rows, strict=True):
            yield Request(number, ids), self.prompts.problem(ids)

    def _texts(self, entries: Sequence[Entry]) -> tuple[list[tuple[int, str, list[str]]], _Errors]:
        """Number, prompt and continuations of each record."""
        texts: list[tuple[int, str, list[str]]] = []
        errors: _Errors = {}
        for entry in entries:
            if entry.record is None or entry.error:
                errors[entry.number] = entry.error
                continue
            try:
                record = self.process(entry.record)
                continuations = [] if self.scoring is None else self.scoring.continuations(record)
                texts.append((entry.number, self.prompts.text(record), continuations))
            except (DataError, InputMissingError, PluginError) as error:
                errors[entry.number] = error.message
        return texts, errors

    def _generate(
        self, requests: list[Request], partial: PartialShard, tracker: ProgressTracker, channel: ModelReplicaChannel
    ) -> None:
        if not requests:
            return
        channel.send(requests)
        texts: Texts = {}
        try:
            for completion in self.engine.run(requests, tracker.heartbeat):
                texts[completion.record] = self._cells(completion.results)
                if (batch := completion.batch) is not None:
                    partial.add(texts, batch)
                    texts = {}
                    tracker.count(records=batch.records, failed=0, tokens=batch.new_tokens)
                    _log.info(
                        "batch of %d records: %d tokens in %.2f s, %.0f tokens/s",
                        batch.records,
                        batch.new_tokens,
                        batch.seconds,
                        batch.new_tokens / batch.seconds,
                    )
        except StoppedError:
            partial.commit()
            raise
        missing = sorted({request.record for request in requests} - partial.texts.keys())
        if missing:
            raise InternalError(
                f"engine {self.config.engine} gave nothing for {counted(len(missing), 'record')}: {missing[:5]}"
            )

    def _cells(self, results: Results) -> list[str]:
        if self.scoring is not None:
            return [self.scoring.cell(cast(list[Score], results))]
        if self.config.task == "embed":
            return [_vector_cell(cast(list[Vector], results))]
        skip = self.config.generation.skip_special_tokens
        return self.tokenizer.batch_decode(cast(Sequences, results), skip_special_tokens=skip)

    def _row(self, entry: Entry, texts: Texts, errors: _Errors) -> OutputRow:
        columns = entry.record.values if entry.record is not None else {}
        if entry.number in errors:
            return OutputRow(columns, entry.raw, error=errors[entry.number])
        generated = texts[entry.number]
        if self.config.task != "generate":
            return OutputRow(columns, entry.raw, generation=json.loads(generated[0]))
        is_several = self.config.generation.num_return_sequences > 1
        return OutputRow(columns, entry.raw, generation=generated if is_several else generated[0])


def _vector_cell(vectors: Sequence[Vector]) -> str:
    """An embedding as JSON, in the fewest digits that give the same numbers in fp32."""
    [vector] = vectors
    return orjson.dumps(np.array(vector.values, np.float32), option=orjson.OPT_SERIALIZE_NUMPY).decode()
