"""The checkout that this package is run from, and where what it builds lies outside of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "zerotune"
CRDS = ROOT / "crds"


def cache_folder() -> Path:
    """Where big builds live, outside the checkout: `$ZEROTUNE_CACHE`, else `~/.cache/zerotune`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ZEROTUNE_CACHE") or Path(base) / "zerotune")


def extensions_folder() -> Path:
    """Where torch keeps what it compiles of DeepSpeed, in minutes: one for the versions that are pinned."""
    pinned = (ROOT / "requirements" / "dev.txt").read_bytes()
    return cache_folder() / "torch_extensions" / hashlib.sha256(pinned).hexdigest()[:16]
