"""Prepared rows, kept by what they were made from: the same content and options are never tokenized twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from transformers import PreTrainedTokenizerBase

from zerotune_trainer import storage
from zerotune_trainer.data.arrow import read_rows
from zerotune_trainer.data.counts import SplitCounts
from zerotune_trainer.data.files import DataFile
from zerotune_trainer.data.mapped import MappedRows
from zerotune_trainer.storage import StoredFile

_LIBRARIES = ("transformers", "tokenizers", "jinja2", "trl", "orjson")
"""Packages whose versions may change what rows come out."""


def digest(*parts: Any) -> str:
    """A key of 32 hex digits for JSON values."""
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def cached_rows(cache_dir: Path, key: str, build: Callable[[Path], None]) -> tuple[MappedRows, SplitCounts]:
    """The rows of a key, memory-mapped. Of all processes that share the folder one builds, and the others wait."""
    return read_rows(storage.complete_or_absent(cache_dir / "data" / key, build))


def content_key(files: list[DataFile], cache_dir: Path) -> str:
    """Stands for what the files hold: sha256 of local files, size and ETag of those on S3, and how they are read."""
    contents = [[_content(part, cache_dir) for part in file.parts] for file in files]
    how = [(file.format, file.split, file.error_column) for file in files]
    return digest(list(zip(how, contents, strict=True)))


def model_key(folder: Path, cache_dir: Path) -> str:
    """Stands for a model: the sha256 of each file of its configuration, code and weights, wherever the folder lies."""
    files = storage.list_files(f"file://{folder}", (".json", ".safetensors", ".bin", ".py"))
    return digest([(Path(file.name).name, _content(file, cache_dir)) for file in files])


def tokenizer_key(tokenizer: PreTrainedTokenizerBase, scratch: Path) -> str:
    """Stands for a tokenizer with its chat template, wherever it was loaded from."""
    # A call leaves padding and truncation in a fast tokenizer as they will be when records are tokenized.
    tokenizer("", padding=False, truncation=False)
    tokenizer.save_pretrained(scratch)
    files = sorted(path for path in scratch.rglob("*") if path.is_file())
    contents = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    return digest(type(tokenizer).__name__, contents, tokenizer.chat_template)


def code_key() -> str:
    """Stands for the code that makes rows: this package and the libraries it calls."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    own = [(source.name, hashlib.sha256(source.read_bytes()).hexdigest()) for source in sources]
    return digest(own, [(name, version(name)) for name in _LIBRARIES])


def _content(file: StoredFile, cache_dir: Path) -> str:
    if not file.uri.startswith("file://"):
        return digest(file.uri, file.size, file.version)

    def measure(draft: Path) -> None:
        with storage.open_input(file.uri) as content:
            (draft / "sha256").write_text(hashlib.file_digest(content, "sha256").hexdigest())

    known = cache_dir / "digests" / digest(file.uri, file.size, file.version)
    return (storage.complete_or_absent(known, measure) / "sha256").read_text()
