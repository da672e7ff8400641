"""The seam between the inference path and what generates: prompts as token ids in, generated token ids out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

OnToken = Callable[[], None]
"""Called for every token position generated: tells the launcher that the rank is alive, and raises to stop."""


@dataclass(frozen=True)
class Prompt:
    """The token ids of a record's prompt. `record` is the record's global number: sampling is seeded by it."""

    record: int
    ids: list[int]


class Engine(Protocol):
    """A loaded model that generates for one batch at a time."""

    def generate(self, prompts: Sequence[Prompt], on_token: OnToken) -> list[list[list[int]]]:
        """Token ids generated for each prompt, `numReturnSequences` lists each: no prompt, no padding, no end token
        but the one that ended it."""
