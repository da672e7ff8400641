"""Texts of others, such as records and messages of libraries, as a terminal may show them. Torch-free."""

from __future__ import annotations

_DIRECTION_MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Unicode's `Bidi_Control`: they reverse the text that follows."""
CONTROLS = frozenset({code for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}) | frozenset(
    map(ord, _DIRECTION_MARKS)
)
"""Characters that move the cursor, change colours or reverse text. Lines and tabs are none of them."""
_ESCAPED = {code: ascii(chr(code))[1:-1] for code in CONTROLS}


def printable(text: str) -> str:
    r"""A text with every control character and direction mark escaped: `\x1b`, `\u202e`."""
    return text.translate(_ESCAPED)
