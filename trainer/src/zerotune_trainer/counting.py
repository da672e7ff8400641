"""Numbers of things, in messages."""

from __future__ import annotations

_GROUPED_FROM = 10_000


def counted(count: int, noun: str, plural: str = "") -> str:
    """So many of something: `1 node`, `2 nodes`, `4096 tokens`, `16,384 tokens`.

    Args:
        count: How many.
        noun: What, in the singular.
        plural: And in the plural, where that is not the noun with an s.
    """
    return f"{count if count < _GROUPED_FROM else f'{count:,}'} {noun if count == 1 else plural or f'{noun}s'}"
