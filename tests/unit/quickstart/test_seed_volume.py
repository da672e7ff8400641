"""What fills the claim of the example for a cluster can be set for the cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "examples" / "quickstart" / "seed_volume.py"


def _claim_and_pod(*arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    printed = subprocess.run([sys.executable, SCRIPT, *arguments], check=True, capture_output=True, text=True).stdout
    claim, _, job = json.loads(printed)["items"]
    return claim["spec"], job["spec"]["template"]["spec"]


@pytest.mark.slow
def test_image_access_mode_and_storage_class_are_those_that_are_named() -> None:
    named = ("--image", "registry.example.com/trainer:1", "--access-mode", "ReadWriteMany", "--storage-class", "shared")
    claim, pod = _claim_and_pod(*named)
    assert (claim["accessModes"], claim["storageClassName"]) == (["ReadWriteMany"], "shared")
    assert pod["containers"][0]["image"] == "registry.example.com/trainer:1"


@pytest.mark.slow
def test_by_default_it_is_for_the_cluster_that_tests_make() -> None:
    claim, pod = _claim_and_pod()
    assert claim["accessModes"] == ["ReadWriteOnce"]
    assert "storageClassName" not in claim
    assert pod["containers"][0]["image"] == "zerotune.dev/trainer:0.1.0"
