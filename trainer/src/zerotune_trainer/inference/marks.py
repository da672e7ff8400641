"""Places in a file of jsonl from which it can be read, so that nobody reads millions of lines in order to skip them."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from zerotune_trainer.config.base import Settings

SPACING = 10_000
"""Records from one mark to the next."""


class Mark(NamedTuple):
    """Where a record begins."""

    record: int
    """Its number in the file, from 0."""
    offset: int
    """Of its line, in bytes."""
    line: int
    """The number of its line, from 1."""


BEGINNING = Mark(0, 0, 1)


class Marks(Settings):
    """Every so-manieth record of a file, from the first on; none where it can only be read from its beginning."""

    offsets: list[int] = Field(default=[])
    lines: list[int] = Field(default=[])

    def note(self, record: int, offset: int, line: int) -> None:
        """Take note of a record where it is one of those. They come in order."""
        if record % SPACING == 0:
            self.offsets.append(offset)
            self.lines.append(line)

    def before(self, record: int) -> Mark:
        """The last mark that is not behind a record."""
        if not self.offsets:
            return BEGINNING
        number = min(record // SPACING, len(self.offsets) - 1)
        return Mark(number * SPACING, self.offsets[number], self.lines[number])
