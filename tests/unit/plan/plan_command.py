"""How the tests of `zerotune plan` call it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

GOLDEN = Path(__file__).parents[2] / "golden" / "plan"
MODELS = GOLDEN / "models"
EXAMPLES = Path(__file__).parents[3] / "crds" / "examples"


def run(zerotune: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([zerotune, "plan", *map(str, arguments)], capture_output=True, text=True, check=False)


def manifest(tmp_path: Path, *documents: object) -> Path:
    path = tmp_path / "jobs.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return path
