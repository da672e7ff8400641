"""The checkout that this package is run from, and where what it builds lies outside of it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "zerotune"
CRDS = ROOT / "crds"


def cache_folder() -> Path:
    """Where big builds live, outside the checkout: `$ZEROTUNE_CACHE`, else `~/.cache/zerotune`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ZEROTUNE_CACHE") or Path(base) / "zerotune")
