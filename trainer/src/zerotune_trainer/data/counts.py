"""How much data there is, for the report."""

from __future__ import annotations

from zerotune_trainer.config.base import Settings


class SplitCounts(Settings):
    """The train or the validation part in numbers."""

    records: int
    """Records read, those that were skipped included."""
    rows: int
    """Rows to train on: records, or packed blocks."""
    tokens: int
    """Tokens in all rows."""
    loss_tokens: int
    """Tokens that count in the loss."""
    skipped_records: int = 0
    """Records left out because they were too long. Where `data.validationFraction` divides the records, those skipped,
    failed and truncated are counted with the train part."""
    failed_records: int = 0
    """Records left out because the InferenceJob that wrote them has an error in place of a text."""
    truncated_records: int = 0
    """Records of which the end or the beginning was cut off."""
    dropped_tokens: int = 0
    """Tokens that skipping and truncating left out."""
    idle_blocks: int = 0
    """Packed blocks left out because none of their tokens counts in the loss: nothing can be learned from them."""
    idle_tokens: int = 0
    """Tokens of those blocks."""
    good_completions: int = 0
    """Rows whose completion was judged good (method kto)."""
    bad_completions: int = 0
    """Rows whose completion was judged bad."""
    repeated_rows: int = 0
    """Rows that an epoch has more than once, as there is less text than `data.replay.share` takes."""


class DataCounts(Settings):
    """What was prepared."""

    train: SplitCounts
    """Without what is mixed in."""
    validation: SplitCounts | None = None
    replay: SplitCounts | None = None
    """General text that is mixed into the train part: all of its records, and the rows that are."""
    control: SplitCounts | None = None
    """Texts whose perplexity shows what the model forgets."""
