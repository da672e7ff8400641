"""The quick start's files are scripts beside each other, not a package."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "examples" / "quickstart"
sys.path.insert(0, str(FOLDER))
