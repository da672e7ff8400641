"""What a benchmark prints while it runs."""

from __future__ import annotations

import sys


def print_line(text: str) -> None:
    """Print a line at once: whoever waits for minutes sees how far it is."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
