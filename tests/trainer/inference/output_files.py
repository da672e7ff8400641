"""The output files of an InferenceJob as they are."""

from __future__ import annotations

from pathlib import Path


def parts(output: Path) -> dict[str, bytes]:
    """The content of each file, by its name."""
    return {path.name: path.read_bytes() for path in sorted(output.glob("part-*"))}
