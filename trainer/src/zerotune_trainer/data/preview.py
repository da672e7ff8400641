"""Prepared rows as text for a person: how many there are, how long they are, what was skipped, and some of them.

What counts in the loss stands between ⟦ and ⟧.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from zerotune_trainer.config.methods import MethodTraits
from zerotune_trainer.counting import counted
from zerotune_trainer.data.arrow import read_skipped
from zerotune_trainer.data.counts import SplitCounts
from zerotune_trainer.data.labels import IGNORE_INDEX
from zerotune_trainer.data.mapped import MappedRows
from zerotune_trainer.data.prepare import PreparedData
from zerotune_trainer.data.replay import SplitRows

_BARS = 10
_BAR_WIDTH = 40
_ROLES = {"pair": ("chosen", "rejected"), "judged": ("completion", "completion of another record, for the divergence")}

Ids = NDArray[np.int32]


def preview(
    rows: PreparedData,
    records: dict[str, MappedRows],
    tokenizer: PreTrainedTokenizerBase,
    traits: MethodTraits,
    shown: int,
) -> Iterator[str]:
    """The lines of a preview.

    Args:
        rows: What ranks train and evaluate on.
        records: The same before they were divided and packed, as `tokenized_records` gives them.
        tokenizer: Decodes the rows.
        traits: Of the method.
        shown: How many rows of each split are decoded.
    """
    for name, tokenized in records.items():
        yield from _lengths(name, tokenized)
        yield from _skipped(read_skipped(tokenized))
    for name, split in rows.splits.items():
        yield from _summary(name, getattr(rows.counts, name), _longest(split))
        if name == "train" and rows.counts.replay is not None:
            yield from _summary("replay, mixed into train", rows.counts.replay, _longest(split))
        for index in range(min(shown, len(split))):
            yield from _row(split[index], f"{name} row {index + 1} of {len(split)}", tokenizer, traits)


def marked(ids: Ids, labels: Ids, tokenizer: PreTrainedTokenizerBase) -> str:
    """A sequence of tokens as text, with what counts in the loss between ⟦ and ⟧."""
    counts = labels != IGNORE_INDEX
    ends = [*(np.flatnonzero(counts[1:] != counts[:-1]) + 1).tolist(), len(ids)]
    parts, before = [], ""
    for end in ends:
        # Decoded from the beginning each time: some decoders drop the space that a text begins with.
        text = str(tokenizer.decode(ids[:end].tolist(), clean_up_tokenization_spaces=False))
        part, before = text[len(before) :], text
        parts.append(f"⟦{part}⟧" if counts[end - 1] else part)
    return "".join(parts)


def histogram(lengths: Sequence[int] | NDArray[Any]) -> list[str]:
    """Numbers of lengths in at most ten ranges of one width, a line each with a bar."""
    width = -(-int(max(lengths)) // _BARS)
    numbers = np.bincount((np.asarray(lengths) - 1) // width)
    digits, most = len(str(width * len(numbers))), int(numbers.max())
    lines = []
    for place, number in enumerate(numbers.tolist()):
        bar = "#" * -(-number * _BAR_WIDTH // most)
        span = f"{place * width + 1:>{digits}} to {(place + 1) * width:>{digits}}"
        lines.append(f"  {span}  {number:>{len(str(most))}} {bar}".rstrip())
    return lines


def _lengths(name: str, rows: MappedRows) -> Iterator[str]:
    lengths = rows.lengths()
    median, high = np.percentile(lengths, (50, 95), method="higher").tolist()
    yield f"{name}: {counted(len(lengths), 'sequence')} of {lengths.min():,} to {lengths.max():,} tokens"
    yield f"  {lengths.mean():,.0f} tokens on average, half up to {median:,}, 95% up to {high:,}"
    yield from histogram(lengths)


def _longest(split: SplitRows) -> int:
    """Tokens of the longest sequence; of kto, where `longest` is the most that there may be, that of the records."""
    return int(split.lengths().max()) if isinstance(split, MappedRows) else split.longest()


def _skipped(skipped: list[str]) -> Iterator[str]:
    if skipped:
        yield "skipped:"
        yield from (f"  {line}" for line in skipped)


def _summary(name: str, counts: SplitCounts, longest: int) -> Iterator[str]:
    yield ""
    yield (
        f"{name}: {counted(counts.records, 'record')} in {counted(counts.rows, 'row')}, "
        f"the longest sequence {counted(longest, 'token')}"
    )
    yield f"  {counted(counts.tokens, 'token')}, {counts.loss_tokens:,} of which count in the loss"
    if counts.good_completions or counts.bad_completions:
        yield f"  {counts.good_completions:,} of the completions are good, {counts.bad_completions:,} bad"
    for number, noun, what in (
        (counts.skipped_records, "record", "skipped, too long"),
        (counts.truncated_records, "record", "truncated"),
        (counts.dropped_tokens, "token", "dropped with them"),
        (counts.failed_records, "record", "with an error in place of a text"),
        (counts.repeated_rows, "row", "repeated: there is less text than data.replay.share takes"),
        (counts.idle_blocks, "block", "without a token that counts in the loss, left out"),
    ):
        if number:
            yield f"  {counted(number, noun)} {what}"


def _row(row: dict[str, Ids], title: str, tokenizer: PreTrainedTokenizerBase, traits: MethodTraits) -> Iterator[str]:
    ids, labels = row["input_ids"], row["labels"]
    lengths = row["seq_lengths"].tolist() if "seq_lengths" in row else [len(ids)]
    begin = 0
    for place, size in enumerate(lengths):
        part = slice(begin, begin + size)
        in_loss = int(np.count_nonzero(labels[part] != IGNORE_INDEX))
        yield ""
        yield f"{title}{_part(row, place, len(lengths), traits)}: {counted(size, 'token')}, {in_loss:,} in the loss"
        yield marked(ids[part], labels[part], tokenizer)
        begin += size


def _part(row: dict[str, Ids], place: int, of: int, traits: MethodTraits) -> str:
    """What a sequence of a row is."""
    if traits.preference is None:
        return f", document {place + 1} of {of}" if of > 1 else ""
    judgement = (", good" if row["desirable"][0] else ", bad") if "desirable" in row and place == 0 else ""
    return f", {_ROLES[traits.preference][place]}{judgement}"
