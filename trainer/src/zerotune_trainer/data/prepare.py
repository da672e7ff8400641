"""From the files a job names to the rows its ranks train on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data.cache import digest
from zerotune_trainer.data.counts import DataCounts, SplitCounts
from zerotune_trainer.data.mapped import MappedRows
from zerotune_trainer.data.parallel import available_processes
from zerotune_trainer.data.preparation import Preparation, Split
from zerotune_trainer.data.replay import MixedRows, SplitRows, choose_replay


@dataclass(frozen=True)
class PreparedData:
    """Rows as `arrow` has them: numpy arrays `input_ids`, `labels` (-100: no loss) and what a method has besides."""

    train: SplitRows
    validation: MappedRows | None
    """Where there are validation records."""
    counts: DataCounts
    digest: str
    """Of what the rows were made of, and how: the same wherever the rows are the same."""
    control: MappedRows | None = None
    """Rows of the control texts, where there are some."""
    warnings: tuple[str, ...] = ()
    """What a person should know of the records, though they can be trained on."""

    @property
    def splits(self) -> dict[str, SplitRows]:
        """The rows to train on, and those to evaluate on and of control texts where there are some, by name."""
        found = {"train": self.train, "validation": self.validation, "control": self.control}
        return {name: rows for name, rows in found.items() if rows is not None}


def prepare(
    config: TrainConfig, tokenizer: PreTrainedTokenizerBase, processes: int | None = None, most: int | None = None
) -> PreparedData:
    """The rows to train and to evaluate on, the same on every rank and after every restart.

    Args:
        config: The job. Rows are kept in `launch.cacheDir`; ranks that share it tokenize once.
        tokenizer: The model's, with the chat template that counts.
        processes: How many processes tokenize. Default: the CPUs there are. The rows do not depend on it.
        most: How many records of each split are read. None: all.

    Raises:
        DataError: a file or record is bad, with its file and line, or nothing is left.
        InputMissingError: a file, folder or column is not there.
        ConfigurationError: options that do not go together, or with what the records hold; rows of another tokenizer.
        OutOfMemoryError, TemporaryError: see `tokenize_in_parallel` and `storage.store_errors`.
    """
    preparation = Preparation(config, tokenizer, processes or available_processes(), most)
    tokens = preparation.tokenized(config.data.train)
    if config.data.validation is not None:
        train = preparation.packed(tokens)
        validation = preparation.packed(preparation.tokenized(config.data.validation))
    elif config.data.validation_fraction:
        train, validation = preparation.divided(tokens)
    else:
        train, validation = preparation.packed(tokens), None
    rows = [preparation.completed(split.rows) for split in (train, validation) if split is not None]
    counts = DataCounts(train=_judged(train), validation=_judged(validation) if validation else None)
    key = digest(train.key, validation.key if validation else None)
    warnings = tuple(dict.fromkeys(preparation.warnings))
    prepared = PreparedData(rows[0], rows[1] if validation else None, counts, key, warnings=warnings)
    return _with_control(_with_replay(prepared, train, preparation), preparation)


def _judged(split: Split) -> SplitCounts:
    """The counts of a split, with its good completions where completions are judged."""
    good = split.rows.good_completions()
    if good is None:
        return split.counts
    return split.counts.model_copy(update={"good_completions": good, "bad_completions": len(split.rows) - good})


def _with_replay(prepared: PreparedData, train: Split, preparation: Preparation) -> PreparedData:
    """The rows with general text among those to train on."""
    replay = preparation.data.replay
    if replay is None:
        return prepared
    general = preparation.general(replay)
    sizes = general.rows.sizes()
    chosen = choose_replay(train.counts.tokens, sizes, replay.share, preparation.seed)
    tokens = int(sizes[chosen].sum())
    numbers = {"rows": len(chosen), "tokens": tokens, "loss_tokens": tokens}
    numbers["repeated_rows"] = max(0, len(chosen) - len(sizes))
    counts = general.counts.model_copy(update=numbers)
    return replace(
        prepared,
        train=MixedRows(train.rows, general.rows, chosen),
        counts=prepared.counts.model_copy(update={"replay": counts}),
        digest=digest(prepared.digest, general.key, replay.share, preparation.seed),
    )


def _with_control(prepared: PreparedData, preparation: Preparation) -> PreparedData:
    """The rows with those of the control texts."""
    texts = preparation.control
    if texts is None:
        return prepared
    control = preparation.general(texts)
    return replace(
        prepared,
        control=control.rows,
        counts=prepared.counts.model_copy(update={"control": control.counts}),
        digest=digest(prepared.digest, control.key),
    )


def tokenized_records(
    config: TrainConfig, tokenizer: PreTrainedTokenizerBase, most: int | None = None
) -> dict[str, MappedRows]:
    """The rows before they are divided or packed, one a record: `train`, and `validation` where the job names some.

    Args:
        config: The job.
        tokenizer: The model's.
        most: How many records of each split are read. None: all.

    Raises:
        DataError, InputMissingError, ConfigurationError, OutOfMemoryError, TemporaryError: as `prepare` says.
    """
    preparation = Preparation(config, tokenizer, available_processes(), most)
    splits = {"train": config.data.train, "validation": config.data.validation}
    return {name: preparation.tokenized(records).rows for name, records in splits.items() if records is not None}
