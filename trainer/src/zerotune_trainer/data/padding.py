"""Padding in records that are token ids already, as tokenizers write it: `attention_mask` is 0 there."""

from __future__ import annotations

from typing import Any

from zerotune_trainer.data.readers import Record
from zerotune_trainer.errors import DataError


def unpadded(mask: Any, size: int, record: Record) -> list[int]:
    """The places of a record's tokens that are no padding.

    Args:
        mask: Its column `attention_mask`.
        size: How many tokens it has.
        record: For errors.

    Raises:
        DataError: the mask does not hold 0 or 1 for each token.
    """
    if not isinstance(mask, list) or len(mask) != size or any(each not in (0, 1) for each in mask):
        raise DataError(
            f"{record.location}: attention_mask is {mask!r:.80}, and must have 0 or 1 for each of {size} input_ids",
            "write 0 for padding and 1 for every other token, or leave the column out",
        )
    return [place for place, each in enumerate(mask) if each]
