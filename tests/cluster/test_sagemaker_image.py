"""The image for SageMaker, built on the trainer's as `make images` left it: what it starts as, and its entry point."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zerotune_devtools.checkout import ROOT, cache_folder
from zerotune_devtools.images.build import Docker

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.skipif(Docker.is_used(), reason="docker has the trainer's image in a store of its own"),
]
TRAINER, NAME = "zerotune.dev/trainer:0.1.0", f"localhost/zerotune-sagemaker-{os.getpid()}"
STORE = cache_folder() / "images"


def buildah(*arguments: str | Path) -> str:
    store = ("--root", STORE / "storage", "--runroot", STORE / "run", "--storage-driver", "overlay")
    ended = subprocess.run(["buildah", *store, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.fixture(scope="module")
def image() -> Iterator[dict[str, Any]]:
    """Its configuration."""
    options = ("--quiet", "--layers", "--isolation", "chroot", "--build-arg", f"TRAINER={TRAINER}", "--tag", NAME)
    buildah("bud", *options, "--file", "images/sagemaker/Dockerfile", ".")
    yield json.loads(buildah("inspect", "--type", "image", NAME))["OCIv1"]
    buildah("rmi", NAME)


def test_it_is_the_trainers_layers_with_an_entry_point_as_root(image: dict[str, Any]) -> None:
    """D29, D30."""
    trainer = json.loads(buildah("inspect", "--type", "image", TRAINER))["OCIv1"]
    assert image["config"]["User"] == "0:0", "whom /opt/ml belongs to"
    assert image["config"]["Entrypoint"] == ["tini", "--", "zerotune-sagemaker"]
    assert image["config"]["Labels"]["org.opencontainers.image.title"] == "zerotune sagemaker"
    assert image["rootfs"]["diff_ids"] == trainer["rootfs"]["diff_ids"]


def test_its_entry_point_runs_inside_and_says_why_it_fails(image: dict[str, Any], tmp_path: Path) -> None:
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    (config / "resourceconfig.json").write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]}))
    container = buildah("from", NAME)
    command = (*image["config"]["Entrypoint"][:2], "sh", "-c", "zerotune-sagemaker; echo ended with $?")
    said = buildah("run", "--isolation", "chroot", "--volume", f"{tmp_path}:/opt/ml", container, "--", *command)
    buildah("rm", container)
    assert said.splitlines()[-1] == "ended with 66"
    failure = (tmp_path / "output" / "failure").read_text()
    assert failure.startswith("InputMissing (exit code 66): /opt/ml/input/data/zerotune/hostfile is not there")
