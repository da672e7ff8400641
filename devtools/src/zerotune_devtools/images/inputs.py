"""What an image is built from, as one digest: where that is as before, the image is too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path


def digest(root: Path, dockerfile: Path, arguments: Sequence[str]) -> str:
    """sha256 over the Dockerfile, the build's arguments, and names, modes and contents of the context's files."""
    inputs = hashlib.sha256(json.dumps([str(dockerfile), *arguments]).encode())
    for path in (root / dockerfile, *context_files(root)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        inputs.update(json.dumps([str(path.relative_to(root)), oct(path.stat().st_mode), content]).encode())
    return inputs.hexdigest()


def context_files(root: Path) -> Iterator[Path]:
    """The files that `.dockerignore` lets in, sorted. It leaves out everything, then names what is wanted
    (`!FOLDER`, `!FILE`), then what is not wanted wherever it is (`**/NAME`): more than that is not understood.
    """
    lines = (root / ".dockerignore").read_text().splitlines()
    wanted = [line.removeprefix("!") for line in lines if line.startswith("!")]
    unwanted = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    for path in sorted(path for name in wanted for path in (root / name, *(root / name).rglob("*"))):
        parts = path.relative_to(root).parts
        if path.is_file() and not any(fnmatch(part, pattern) for part in parts for pattern in unwanted):
            yield path
