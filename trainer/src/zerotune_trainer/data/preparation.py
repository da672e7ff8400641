"""Records to rows, step by step, each of which is made once and kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from zerotune_trainer import storage
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.data import Columns, Data, Records, Texts
from zerotune_trainer.config.training import Preference
from zerotune_trainer.data.arrow import IdleFilter, TokenCounter, write_counts, write_rows
from zerotune_trainer.data.cache import cached_rows, code_key, content_key, digest, tokenizer_key
from zerotune_trainer.data.chat import reads_clock
from zerotune_trainer.data.columns import resolve_columns
from zerotune_trainer.data.counts import SplitCounts
from zerotune_trainer.data.files import resolve
from zerotune_trainer.data.mapped import MappedRows
from zerotune_trainer.data.mismatched import MismatchedRows
from zerotune_trainer.data.packing import pack
from zerotune_trainer.data.parallel import Tokenize
from zerotune_trainer.data.preference_rows import PreferenceTokenizer, TokenizedPreferences
from zerotune_trainer.data.preferences import resolve_preferences
from zerotune_trainer.data.processing import Process, load_formatting
from zerotune_trainer.data.provenance import provenance_warnings
from zerotune_trainer.data.readers import Record
from zerotune_trainer.data.tokenizing import tokenize_files
from zerotune_trainer.data.tokens import RecordTokenizer
from zerotune_trainer.errors import DataError, InternalError

_ROW_FIELDS = {
    "columns",
    "system_prompt",
    "add_generation_prompt",
    "chat_template_kwargs",
    "loss",
    "response_template",
    "response_template_ids",
    "instruction_template",
    "instruction_template_ids",
}
"""Fields of `data` that decide what a record's row is."""

_LENGTH_FIELDS = {"max_length", "overflow", "truncation_side"}
"""Fields that do so besides, where rows are not packed."""


@dataclass(frozen=True)
class Split:
    """Rows that are in the cache, under a key."""

    key: str
    rows: MappedRows
    counts: SplitCounts


class Preparation:
    """What is made of the records of a job."""

    def __init__(
        self, config: TrainConfig, tokenizer: PreTrainedTokenizerBase, processes: int, most: int | None
    ) -> None:
        self.config = config
        self.data = config.data
        self.control = config.evaluation.control
        self.seed = config.training.seed
        self.created = config.job.created
        self.packing = config.packing
        self.preference = (config.preference or Preference()) if config.traits.preference else None
        self.judged = config.traits.preference == "judged"
        self.cache_dir = Path(config.launch.cache_dir)
        self.tokenizer = tokenizer
        self.processes = processes
        self.most = most
        self.warnings: list[str] = []
        """What a person should know of the records."""

    def tokenized(self, records: Records) -> Split:
        """One row a record.

        Raises:
            ZerotuneError: as `prepare` says; a ConfigurationError also where rows are of another tokenizer.
        """
        files = resolve(records, self.cache_dir)
        for file in files:
            self.warnings += provenance_warnings(file, self.config, self.tokenizer)
        key = digest(self._tools_key, content_key(files, self.cache_dir), self._options, self.most)

        def build(folder: Path) -> None:
            make = self._tokenizer_of
            process = load_formatting(self.config.plugin)
            tokenize_files(files, folder, self.data, process, make, processes=self.processes, most=self.most)

        return self._cached(key, build)

    def packed(self, tokens: Split) -> Split:
        """The rows in blocks."""
        if self.packing == "none":
            return tokens
        return self._packed(tokens.rows, tokens.counts, digest(tokens.key, self.packing, self.data.max_length))

    def divided(self, tokens: Split) -> tuple[Split, Split]:
        """The rows of train and of validation records, each in blocks."""
        of_record = _rows_of_a_record(tokens)
        records = _chosen(len(tokens.rows) // of_record, self.data.validation_fraction, self.seed)
        chosen = np.repeat(records, of_record)  # What one record says twice is not both trained on and held out.
        key = digest(tokens.key, self.packing, self.data.max_length, self.data.validation_fraction, self.seed)
        nothing_lost = SplitCounts(records=0, rows=0, tokens=0, loss_tokens=0)
        return (
            self._packed(tokens.rows, tokens.counts, digest(key, "train"), ~chosen, of_record),
            self._packed(tokens.rows, nothing_lost, digest(key, "validation"), chosen, of_record),
        )

    def general(self, texts: Texts) -> Split:
        """The rows of general text, whose every token counts, in blocks."""
        packing = "wrapped" if self.packing == "none" else self.packing
        columns = Columns(text=texts.text_column)
        data = Data(train=texts, columns=columns, max_length=self.data.max_length, packing=packing)
        config = self.config.model_copy(update={"method": "cpt", "data": data, "preference": None, "plugin": None})
        plain = Preparation(config, self.tokenizer, self.processes, self.most)
        return plain.packed(plain.tokenized(texts))

    def completed(self, rows: MappedRows) -> MappedRows:
        """The rows with what a method needs beside each."""
        return MismatchedRows(rows, self.data.max_length) if self.judged else rows

    def _tokenizer_of(self, record: Record, process: Process) -> Tokenize:
        """What tokenizes records like this one."""
        columns, tokenizer = self.data.columns, self.tokenizer
        options: Any = {"process": process, "created": self.created}
        if self.preference is None:
            options["packed"] = self.packing != "none"
            return RecordTokenizer(self.data, tokenizer, resolve_columns(columns, record), **options)
        if "input_ids" in record.values:
            return TokenizedPreferences(self.data, tokenizer, process, judged=self.judged)
        preferences = resolve_preferences(columns, record, judged=self.judged)
        return PreferenceTokenizer(self.data, self.preference, tokenizer, preferences, judged=self.judged, **options)

    def _packed(
        self,
        rows: MappedRows,
        losses: SplitCounts,
        key: str,
        chosen: NDArray[np.bool_] | None = None,
        of_record: int = 1,
    ) -> Split:
        def build(folder: Path) -> None:
            before = TokenCounter(rows.tables(chosen))
            blocks = IdleFilter(pack(before, self.packing, self.data.max_length))
            counts = write_rows(folder, blocks)
            if counts.tokens + blocks.tokens != before.tokens:
                made = counts.tokens + blocks.tokens
                raise InternalError(f"packing made {made} tokens of {before.tokens}", "please report it")
            if not counts.rows:
                raise DataError(
                    f"none of the {blocks.blocks} blocks of data.maxLength {self.data.max_length} has a token that "
                    "counts in the loss and follows another",
                    "see data.loss and the columns that data.columns names",
                )
            counts.idle_blocks, counts.idle_tokens = blocks.blocks, blocks.tokens
            rows_in = len(rows) if chosen is None else int(chosen.sum())
            counts.records = rows_in // of_record + losses.skipped_records + losses.failed_records
            for name in ("skipped_records", "failed_records", "truncated_records", "dropped_tokens"):
                setattr(counts, name, getattr(losses, name))
            write_counts(folder, counts)

        return self._cached(key, build)

    def _cached(self, key: str, build: Callable[[Path], None]) -> Split:
        return Split(key, *cached_rows(self.cache_dir, key, build))

    @cached_property
    def _tools_key(self) -> str:
        with tempfile.TemporaryDirectory() as scratch:
            return digest(code_key(), tokenizer_key(self.tokenizer, Path(scratch)))

    @cached_property
    def _plugin_key(self) -> Any:
        """Stands for what the user's functions make of records."""
        plugin = self.config.plugin
        if plugin is None or not (plugin.processing or plugin.formatting_func):
            return None
        source = storage.read_bytes(plugin.uri).decode(errors="replace")
        return [source, plugin.processing, plugin.formatting_func]

    @cached_property
    def _options(self) -> Any:
        fields = _ROW_FIELDS | (_LENGTH_FIELDS if self.packing == "none" else set())
        clock = str(self.created) if reads_clock(self.tokenizer) else None
        longest = self.preference and [self.judged, self.preference.max_prompt_length]
        options = self.data.model_dump(mode="json", include=fields)
        return [self.packing == "none", clock, self._plugin_key, longest, options]


def _rows_of_a_record(tokens: Split) -> int:
    """How many rows each record gives: two where kto reads pairs, else one."""
    counts = tokens.counts
    return len(tokens.rows) // (counts.records - counts.skipped_records - counts.failed_records)


def _chosen(records: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which records are held out: at least one, and not all.

    Raises:
        DataError: there are not two records.
    """
    if records < 2:
        raise DataError(
            f"{records} record cannot be divided by data.validationFraction {fraction}",
            "give more records, or data.validation",
        )
    count = min(max(1, round(records * fraction)), records - 1)
    chosen = np.zeros(records, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(records)[:count]] = True
    return chosen
