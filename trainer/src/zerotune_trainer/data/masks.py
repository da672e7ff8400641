"""Which pieces of a plain text are answers: what stands between a response template and the next instruction."""

from __future__ import annotations

import re
from collections.abc import Iterable

Span = tuple[int, int]
"""Begin and end of a piece of a text or of its tokens."""

Template = str | list[int]
"""A template as text, or as token ids."""


def answers(sequence: Template, response: Template, instruction: Template | None) -> list[Span]:
    """The answers in a text or in its token ids; the templates are of the same kind as the sequence.

    As in TRL's former completion collator: with an instruction template, every piece from the end of a response
    template to the next instruction template; without one, all that follows the last response template. Empty where
    there is none.
    """
    text, size = _characters(sequence), len(response)
    begins = [place + size for place in _occurrences(text, _characters(response))]
    if instruction is None:
        return [(begins[-1], len(text))] if begins else []
    stops = _occurrences(text, _characters(instruction))
    spans: list[Span] = []
    for begin in begins:
        # A response template that an answer quotes begins nothing new.
        if not spans or begin >= spans[-1][1]:
            spans.append((begin, next((stop for stop in stops if stop >= begin), len(text))))
    return spans


def _occurrences(text: str, part: str) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(part), text)]


def _characters(sequence: str | Iterable[int]) -> str:
    # Token ids are searched as text, a character each: ids stay far below the 1,114,112 characters there are.
    return sequence if isinstance(sequence, str) else "".join(map(chr, sequence))
